"""Writes the tokenizer that is served: the folder's own, with our limit and without padding."""

from pathlib import Path

from model_builders.errors import Refused
from model_builders.hub_folder import TOKENIZER, check_ids, check_special_tokens
from model_builders.sentence_encoder.weights import Weights


def write_tokenizer(weights: Weights, path: Path) -> int:
    """Write `tokenizer.json` and return the id that fills up shorter texts.

    The folder's file often pads every text to a fixed length or cuts it elsewhere than the model says; both
    are overruled. Raises Refused when the file or its ids do not fit the model.
    """
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(weights.folder / TOKENIZER))
    except Exception as error:  # the library raises plain Exceptions
        raise Refused(
            "InputInvalid",
            f"Input 'weights': {TOKENIZER} cannot be read by tokenizers {tokenizers.__version__}: {error}. "
            f"{TOKENIZER} is written by AutoTokenizer.from_pretrained(...).save_pretrained(folder) of "
            "transformers.",
        ) from error
    check_ids(tokenizer, weights.config)
    check_special_tokens(
        tokenizer, "Take an encoder whose tokenizer adds them, as those of bert, roberta and mpnet do."
    )
    pad_token_id = weights.config.get("pad_token_id")
    tokenizer.no_padding()
    tokenizer.enable_truncation(weights.max_tokens)
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return pad_token_id if isinstance(pad_token_id, int) else 0
