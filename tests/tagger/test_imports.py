import subprocess
import sys


def test_reading_a_release_never_loads_torch_or_django() -> None:
    code = (
        "import sys, tagger.release, tagger.vocabulary, tagger.thresholds, tagger.preprocess, tagger.architecture;"
        "sys.exit(', '.join({'torch', 'torchvision', 'django'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
