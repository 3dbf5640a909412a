# Developers' words. Each is one line that can also be typed by hand; `make help` lists them.
RUN = python3 manage.py
COMPILE = $(RUN) python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --strip-extras

.DEFAULT_GOAL := help
.PHONY: help up demo test quick lint format bench bench-search bench-pages bench-suggest bench-loading bench-tagging bench-worker bench-likeness bench-loader bench-metadata learn-demo lock

help:     ## list these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
up:       ## start the whole site
	$(RUN) up
demo:     ## start it with the seed gallery
	$(RUN) up --demo
test:     ## set up and run every test
	$(RUN) test
quick:    ## the tests that need no browser and no running site
	$(RUN) test -m "not browser and not slow"
lint:     ## check the code's style
	$(RUN) lint
format:   ## put the code into shape
	$(RUN) lint --fix
bench:    ## time what a person waits for: first page, upload, tags on screen
	$(RUN) python -m tests.benchmarks.loop
bench-search: ## measure search against two peers: make bench-search POSTS=1000000
	$(RUN) python -m tests.benchmarks.search --posts $(or $(POSTS),100000) $(if $(KEEP),--keep $(KEEP))
bench-suggest: ## measure suggestions while somebody types: make bench-suggest POSTS=100000
	$(RUN) python -m tests.benchmarks.suggest --posts $(or $(POSTS),100000) $(if $(KEEP),--keep $(KEEP))
bench-pages: ## time whole pages over HTTP: make bench-pages POSTS=1000000
	$(RUN) python -m tests.benchmarks.pages --posts $(or $(POSTS),50000) $(if $(KEEP),--keep $(KEEP))
bench-loading: ## measure how a tagger of full size is loaded
	$(RUN) python -m tests.benchmarks.loading
bench-tagging: ## measure tagging against onnxruntime and the original app's way
	$(RUN) python -m tests.benchmarks.tagging
bench-worker: ## measure the worker: pictures a second, the model's share, what a write costs
	$(RUN) python -m tests.benchmarks.worker
bench-likeness: ## measure look-alikes and near copies: make bench-likeness POSTS=300000
	$(RUN) python -m tests.benchmarks.likeness --posts $(or $(POSTS),100000)
bench-loader: ## measure the trainer's loader against a plain DataLoader
	$(RUN) python -m tests.benchmarks.loader
bench-metadata: ## measure a dataset of many made posts: make bench-metadata ROWS=8000000
	$(RUN) python -m tests.benchmarks.metadata --rows $(or $(ROWS),1000000)
learn-demo: ## measure what corrections are worth: make learn-demo DATASET=starter-data
	$(RUN) python -m tests.benchmarks.learning $(or $(DATASET),starter-data)
lock:     ## pin the requirements of pyproject.toml again
	$(COMPILE) pyproject.toml -o requirements/base.txt
	$(COMPILE) --extra dev --extra starter -c requirements/base.txt pyproject.toml -o requirements/dev.txt
	echo uv | $(COMPILE) - -o requirements/uv.txt
