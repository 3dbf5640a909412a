"""Stage, mode and engine of a release: chosen by the staff, obeyed by workers that run."""

import threading

import pytest
from django.conf import settings as site
from django.core.cache import cache
from django.urls import reverse

from gallery import tagging, tasks
from gallery.models import Post, Prediction, Profile, Release, TaggingState
from gallery.releases import running
from gallery.worker import workers
from tagger import fast, release
from tagger.importing.joytag import import_vit
from tagger.importing.onnx_model import import_onnx
from tagger.importing.published import JOYTAG
from tests.gallery.making import make_release
from tests.gallery.views.people import signed_in
from tests.gallery.working import install, upload
from tests.tagger import releases
from tests.tagger.importing.test_onnx_model import joytag
from tests.tagger.test_vit import files as vit_files

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.RELEASES_DIR = tmp_path / "releases"
    settings.TAGGER_THREADS = 1
    settings.TAGGER_IDLE_SECONDS = 0
    monkeypatch.setattr(tagging, "_loaded", None)
    monkeypatch.setattr(tagging, "_stopping", threading.Event())
    cache.delete_many(f"worker:{place}" for place in range(workers.MOST))
    return tmp_path


@pytest.fixture
def staff():
    return signed_in(is_staff=True)


def choose(found: Release, **wanted: str) -> Release:
    running.choose(found, **{"stage": found.stage, "mode": found.mode, "engine": found.engine, **wanted})
    found.refresh_from_db()
    return found


def tag_again(post: Post) -> bytes:
    Post.objects.update(tagging_state=TaggingState.WAITING)
    assert tagging.tag_waiting() == 1
    return bytes(Prediction.objects.get(post=post).confidences)


def test_a_running_worker_takes_the_chosen_stage_and_its_thresholds(data, staff):
    chosen, post = install(data / "first"), upload(1)
    refined = tag_again(post)
    assert tagging.held() == workers.Held(chosen.pk, "refined", "exact", "torch fp32")
    page = staff.post(reverse("run_release", args=[chosen.pk]), {"stage": "initial"}, headers={"HX-Request": "true"})
    assert "before their next batch" in page.content.decode()
    initial = tag_again(post)
    assert tagging.held().stage == "initial"
    assert initial != refined
    choose(Release.objects.get(), stage="refined")
    assert tag_again(post) == refined


def test_each_stage_has_its_own_thresholds_in_the_profiles(data):
    folder = releases.write(data / "first").folder
    thresholds = releases.thresholds()
    thresholds["initial"]["overall"]["micro_opt"]["threshold"] = 0.77
    release._write_json(folder / "thresholds.json", thresholds)
    found = install(data / "first")
    overall = Profile.objects.filter(release=found, key="overall")
    before = overall.get().overall
    choose(found, stage="initial")
    assert overall.get().overall == 0.77
    choose(found, stage="refined")
    assert overall.get().overall == before


def test_a_release_of_one_stage_offers_no_other(data):
    found = releases.write(data / "half", stages="initial")
    assert found.stage == "initial"
    half = install(data / "half")
    assert (half.stage, running.ways(half).stages) == ("initial", ["initial"])
    with pytest.raises(running.RunError, match="choose again"):
        choose(half, stage="refined")


@pytest.mark.parametrize("wanted", [{"stage": "x"}, {"mode": "warp"}, {"engine": "openvino"}, {"engine": "\0"}])
def test_what_a_release_cannot_do_is_a_sentence(data, staff, wanted):
    found = install(data / "first")
    url = reverse("run_release", args=[found.pk])
    page = staff.post(url, wanted, headers={"HX-Request": "true"}).content.decode()
    assert "be run so: choose again." in page
    assert "be run so: choose again." in staff.post(url, wanted, follow=True).content.decode()
    found.refresh_from_db()
    assert found.way == ("refined", "exact", "auto")


def test_fast_mode_is_checked_first_and_the_outcome_is_shown(data, staff, django_capture_on_commit_callbacks):
    found = install(data / "first")
    for number in range(3):
        upload(number)
    url = reverse("run_release", args=[found.pk])
    with django_capture_on_commit_callbacks(execute=True):
        page = staff.post(url, {"mode": "fast"}, headers={"HX-Request": "true"}).content.decode()
    found.refresh_from_db()
    assert "A worker checks whether" in page and "hx-trigger" in page
    assert (found.mode, running.is_checked(found)) == ("exact", True)
    became = tasks.check_fast(found.pk)
    found.refresh_from_db()
    assert not running.is_checked(found)
    assert became == found.gate["passed"] == (found.mode == "fast") == (not found.gate["reason"])
    impossible = fast.why_not(release.read(found.path), site.TAGGER_DEVICE)
    assert found.gate["reason"] == impossible if impossible else found.gate["pictures"] == 3
    page = staff.get(reverse("release_ways", args=[found.pk]), headers={"HX-Request": "true"}).content.decode()
    assert ("passed." in page) == became and ("It stays exact." in page) != became
    assert tagging.tag_waiting() == 3
    assert tagging.held().mode == found.mode


def test_a_gate_that_passed_makes_it_fast_unless_somebody_chose_otherwise(data):
    found = install(data / "first")
    outcome = fast.Gate("torch bf16", 0.99, 8, True).to_json()
    choose(found, mode="fast")
    asked = Release.objects.get()
    assert running._conclude(asked, outcome)
    found.refresh_from_db()
    assert (found.mode, found.gate["agreement"]) == ("fast", 0.99)
    choose(found, mode="exact")
    choose(found, mode="fast")
    asked = Release.objects.get()
    choose(found, mode="exact")  # while it is checked
    assert not running._conclude(asked, outcome)
    found.refresh_from_db()
    assert (found.mode, found.gate) == ("exact", {})


@pytest.mark.parametrize(("passed", "mode"), [("torch fp16 (CUDA)", "exact"), ("torch bf16", "fast")])
def test_a_worker_is_fast_only_where_its_own_engine_passed(data, monkeypatch, passed, mode):
    found, post = install(data / "first"), upload(1)
    monkeypatch.setattr(fast, "has_amx", lambda: True)  # of the machine, which hasn't it everywhere
    gate = {"state": "done", **fast.Gate(passed, 0.99, 8, True).to_json()}
    Release.objects.update(mode="fast", gate=gate)
    assert tag_again(post)
    assert tagging.held().mode == mode
    monkeypatch.setattr(fast, "has_amx", lambda: False)
    Release.objects.update(stage="initial")
    assert tag_again(post)
    assert tagging.held() == workers.Held(found.pk, "initial", "exact", "torch fp32")


def test_each_device_that_may_be_fast_is_asked(data, staff, monkeypatch, django_capture_on_commit_callbacks):
    found, sent = install(data / "first"), []
    for place, kind in enumerate(("cpu", "cuda", "amx")):
        said = workers.Worker(f"{kind}@here", 7, ["tagging", f"tagging.{kind}"], 1, 0, None, 0)
        cache.set(f"worker:{place}", workers.asdict(said), 20)
    monkeypatch.setattr(tagging, "send", lambda *message, queue: sent.append((*message, queue)) or True)
    with django_capture_on_commit_callbacks(execute=True):
        choose(found, mode="fast")
    assert sent == [("check_fast", found.pk, "tagging.cuda"), ("check_fast", found.pk, "tagging.amx")]
    asked = Release.objects.get()
    assert not running._conclude(asked, fast.Gate("torch bf16", 0.9, 8, False, "Too few.").to_json(), "amx")
    assert running.is_checked(Release.objects.get())
    assert running._conclude(asked, fast.Gate("torch fp16 (CUDA)", 0.99, 8, True).to_json(), "cuda")
    found.refresh_from_db()
    assert (found.mode, found.is_fast_with("torch fp16 (CUDA)"), found.is_fast_with("torch bf16")) == (
        "fast",
        True,
        False,
    )
    page = " ".join(staff.get(reverse("release", args=[found.pk])).content.decode().split())
    assert "torch fp16 (CUDA) agreed" in page and "torch bf16 stays exact. Too few." in page
    cache.delete_many(f"worker:{place}" for place in range(3))


def test_another_stage_is_exact_until_its_own_check_has_passed(data):
    found, outcome = install(data / "first"), fast.Gate("torch bf16", 0.99, 8, True).to_json()
    choose(found, mode="fast")
    asked = Release.objects.get()
    choose(found, stage="initial", mode="fast")  # while the other stage is checked
    assert not running._conclude(asked, outcome)
    assert running._conclude(Release.objects.get(), outcome)
    found.refresh_from_db()
    choose(found, stage="refined")
    assert (found.mode, running.is_checked(found)) == ("exact", True)
    choose(found, stage="initial", mode="fast")
    assert not running.check(found.pk)  # for want of pictures
    found.refresh_from_db()
    assert (found.mode, found.gate["stage"]) == ("exact", "initial")


def test_without_pictures_it_stays_exact(data):
    found = choose(install(data / "first"), mode="fast")
    assert not running.check(found.pk)
    found.refresh_from_db()
    assert found.mode == "exact" and found.gate["reason"].endswith(".")


def test_a_check_that_died_is_given_up(data, monkeypatch):
    found = choose(install(data / "first"), mode="fast")
    assert running.sweep() == 0
    monkeypatch.setattr(running, "_PATIENCE", running.timedelta(0))
    assert running.sweep() == 1
    found.refresh_from_db()
    assert found.mode == "exact" and "ask for it again" in found.gate["reason"]


def test_an_onnx_release_runs_by_the_engine_of_choice(data, staff):
    (data / "made").mkdir()
    joytag(data / "made")
    import_onnx(data / "made", data / "joy", descriptor=JOYTAG.descriptor, name="joy", title="Joy", model_file=None)
    found, post = install(data / "joy"), upload(1)
    assert "OpenVINO" in staff.get(reverse("release", args=[found.pk])).content.decode()
    by_engine = {}
    for engine in ("onnxruntime", "openvino"):
        choose(found, engine=engine)
        by_engine[engine] = tag_again(post)
        assert tagging.held().engine == f"{engine} fp32"
    assert by_engine["onnxruntime"] == by_engine["openvino"]
    with pytest.raises(running.RunError, match="runs with OpenVINO"):
        choose(found, engine="onnxruntime", mode="fast")


def test_joytag_s_own_weights_run_by_torch_alone(data, staff):
    source = vit_files(data / "made")
    import_vit(source, data / "joy", descriptor=JOYTAG.descriptor, name="joy", title="Joy")
    found, post = install(data / "joy"), upload(1)
    assert tag_again(post)
    assert tagging.held() == workers.Held(found.pk, "refined", "exact", "torch fp32")
    page = staff.get(reverse("release", args=[found.pk])).content.decode()
    assert "vision transformer of JoyTag" in page
    assert "OpenVINO" not in page
    with pytest.raises(running.RunError, match="can't be run so"):
        choose(found, engine="openvino")


def test_memory_is_measured_where_a_worker_has_it_and_computed_elsewhere(data, staff):
    cache.delete_many(f"worker:{place}" for place in range(workers.MOST))
    found = install(data / "first")
    url = reverse("releases")
    assert "computed: no worker has it loaded" in staff.get(url).content.decode()
    held = workers.Held(found.pk, "refined", "fast", "torch bf16")
    said = workers.Worker("tagging@here", 7, ["tagging"], 300 << 20, 2 << 30, held, 0)
    cache.set("worker:0", workers.asdict(said), 20)
    page = " ".join(staff.get(url).content.decode().split())
    assert "300.0 MB</span> and" in page and "2.0 GB</span> of the GPU, measured in" in page
    assert "torch bf16" in page
    cache.delete("worker:0")


def test_the_part_alone_leads_to_its_page(staff):
    found = make_release()
    assert staff.get(reverse("release_ways", args=[found.pk])).url == reverse("release", args=[found.pk])
    assert signed_in().post(reverse("run_release", args=[found.pk])).status_code == 403
