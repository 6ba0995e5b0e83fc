"""The member `spec.build.termDocumentMatrix`."""

from dataclasses import dataclass
from typing import cast, get_args

from model_builders.given import Given
from model_builders.messages import Json
from model_builders.served.words import CASE_FOLDINGS, TOKENIZERS, Settings
from model_builders.term_document_matrix.matrix import Weighting

FIELDS = ("weighting", "tokenizer", "caseFolding", "vocabulary", "minDocuments", "maxTerms")
WHERE = "spec.build.termDocumentMatrix"


@dataclass(frozen=True)
class Parameters:
    weighting: Weighting = "Count"
    tokenizer: str = "Words"
    case_folding: str = "Preserve"
    vocabulary: tuple[str, ...] = ()
    """Fixed terms in this order.

    Empty to take them from the corpus. `min_documents` and `max_terms` count only then.
    """
    min_documents: int = 1
    max_terms: int = 50_000

    @property
    def settings(self) -> Settings:
        return Settings(self.tokenizer, self.case_folding)


def parse_parameters(given: Json, export: Json) -> Parameters:
    """Raises Refused (`ParameterInvalid`) with everything that is wrong."""
    fields = Given(WHERE, given, FIELDS)
    fields.check_lossless(export)
    tokenizer = fields.choice("tokenizer", TOKENIZERS, "Words")
    case_folding = fields.choice("caseFolding", CASE_FOLDINGS, "Preserve")
    parameters = Parameters(
        weighting=cast(Weighting, fields.choice("weighting", get_args(Weighting), "Count")),
        tokenizer=tokenizer,
        case_folding=case_folding,
        min_documents=fields.whole("minDocuments", 1, 1, 1_000_000),
        max_terms=fields.whole("maxTerms", 50_000, 1, 1_000_000),
        vocabulary=fields.vocabulary(Settings(tokenizer, case_folding)),
    )
    fields.refuse()
    return parameters
