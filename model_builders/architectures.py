"""Every architecture that can be built, by its name in `spec.build.architecture`."""

from collections.abc import Mapping

from model_builders.architecture import Architecture
from model_builders.one_hot.builder import OneHotArchitecture
from model_builders.sentence_encoder.builder import SentenceEncoderArchitecture
from model_builders.term_document_matrix.builder import TermDocumentMatrixArchitecture
from model_builders.text_classifier.builder import TextClassifierArchitecture
from model_builders.word2vec.builder import Word2VecArchitecture

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        OneHotArchitecture(),
        SentenceEncoderArchitecture(),
        TermDocumentMatrixArchitecture(),
        TextClassifierArchitecture(),
        Word2VecArchitecture(),
    )
}
