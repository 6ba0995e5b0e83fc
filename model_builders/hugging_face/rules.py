"""generation_config.json as the rules that are served: what is not served is refused, and not passed over."""

from collections.abc import Mapping
from typing import Any

from model_builders.errors import Refused
from model_builders.hugging_face.served.generating import Rules
from model_builders.served.translating import MAX_BEAM_SIZE

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "begin_suppress_tokens": (None,),
    "constraints": (None,),
    "diversity_penalty": (None, 0.0),
    "do_sample": (None, False),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None,),
    "forced_bos_token_id": (None,),
    "guidance_scale": (None, 1.0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0.0),
    "renormalize_logits": (None, False),
    "repetition_penalty": (None, 1.0),
    "sequence_bias": (None,),
    "suppress_tokens": (None,),
    "watermarking_config": (None,),
}
"""Settings that change what is written, and the values with which they do not."""

FILE = "Input 'weights': generation_config.json"


def rules_of(generation: Any) -> Rules:
    """Raises Refused. `generation` is a GenerationConfig of transformers."""
    said = {name: getattr(generation, name, None) for name in NEUTRAL}
    others = [f"{name}: {value!r}" for name, value in said.items() if value not in NEUTRAL[name]]
    if others:
        raise Refused(
            "InputInvalid",
            f"{FILE} (or config.json) asks for {', '.join(others)}, which is not served. Take it "
            "out of a copy of the folder, if texts without it will do.",
        )
    beam_size = generation.num_beams or 1
    if beam_size > MAX_BEAM_SIZE:
        raise Refused(
            "InputInvalid", f"{FILE} has num_beams: {beam_size}; at most {MAX_BEAM_SIZE} are served."
        )
    ends = generation.eos_token_id
    ends = tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)
    if not ends or generation.decoder_start_token_id is None:
        raise Refused(
            "InputInvalid",
            f"{FILE} has no eos_token_id or no decoder_start_token_id; a text has to begin and to end.",
        )
    forced = generation.forced_eos_token_id
    return Rules(
        start=int(generation.decoder_start_token_id),
        ends=ends,
        never=_never(generation.bad_words_ids or [], ends),
        forced_end=forced[0] if isinstance(forced, list) else forced,
        length_penalty=1.0 if generation.length_penalty is None else float(generation.length_penalty),
        early_stopping=generation.early_stopping or False,
        beam_size=int(beam_size),
    )


def _never(words: list[list[int]], ends: tuple[int, ...]) -> tuple[int, ...]:
    """As transformers has it, the end is never among them."""
    if any(len(word) != 1 for word in words):
        raise Refused(
            "InputInvalid", f"{FILE} has bad_words_ids of several tokens; those of one token are served."
        )
    return tuple(word[0] for word in words if word[0] not in ends)
