import subprocess
import sys


def test_reading_a_release_loads_no_engine_and_no_django() -> None:
    modules = ["release", "vocabulary", "thresholds", "preprocess", "architecture", "descriptor", "inference", "onnx"]
    code = (
        f"import sys, {', '.join(f'tagger.{module}' for module in modules)};"
        "sys.exit(', '.join({'torch', 'torchvision', 'django', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
