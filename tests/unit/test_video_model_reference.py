"""Model references: written, read, and refused with the file's name."""

import pytest

from wan_r1.video_model.reference import ModelReference, ModelReferenceError


def test_a_reference_round_trips(tmp_path):
    reference = ModelReference(name="sft", base_uri="s3://b/m", checkpoint_uri="s3://b/c", step=7, core_seconds=1.5)
    reference.write(tmp_path / "deep" / "model.json")
    assert ModelReference.read(tmp_path / "deep" / "model.json") == reference
    assert reference.with_(name="grpo").name == "grpo" and reference.name == "sft"


@pytest.mark.parametrize("content", ["", "[]", '{"base_uri": "x"}', '{"name": "a", "base_uri": "b", "colour": 1}'])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "model.json"
    path.write_text(content)
    with pytest.raises(ModelReferenceError, match=r"model\.json is no model reference.*prepare_model, train_sft"):
        ModelReference.read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelReferenceError, match=r"absent\.json is no model reference"):
        ModelReference.read(tmp_path / "absent.json")
