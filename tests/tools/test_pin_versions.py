"""The pins are what pip resolved, by their canonical names, without the project itself."""

from tools.pin_versions import pins


def test_pins_are_sorted_canonical_and_without_the_project() -> None:
    report = {
        "install": [
            {"metadata": {"name": "m2m-live", "version": "0.1.0"}},
            {"metadata": {"name": "typing_extensions", "version": "4.1"}},
            {"metadata": {"name": "PySide6_Essentials", "version": "6.9"}},
            {"metadata": {"name": "onnxruntime-gpu", "version": "1.26.0"}},
        ]
    }
    assert pins(report, "m2m_live") == [
        "onnxruntime==1.26.0",
        "onnxruntime-gpu==1.26.0",
        "pyside6-essentials==6.9",
        "typing-extensions==4.1",
    ]
