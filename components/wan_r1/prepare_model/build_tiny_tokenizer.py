"""Build the tiny text encoder's tokenizer from the prompts of all families and textures.

    python -m wan_r1.prepare_model.build_tiny_tokenizer --output components/wan_r1/video_model/assets/tiny/tokenizer

A byte-level BPE: words of known prompts are one token each, and any other text still has tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES


def build(output: Path) -> PreTrainedTokenizerFast:
    """Train the tokenizer and save it in transformers' format."""
    prompts = [family.prompt(texture) for family in FAMILIES.values() for texture in TEXTURES.values()]
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(prompts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    fast.save_pretrained(output)
    return fast


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the tokenizer")
    build(parser.parse_args().output)


if __name__ == "__main__":
    main()
