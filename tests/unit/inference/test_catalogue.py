"""What a node offers, and what it offers no more."""

import pytest

from node.errors import ModelNotAvailable, SetupError
from node.inference.catalogue import Catalogue
from node.inference.offers import ModelSpec
from node.settings import Settings


@pytest.fixture
def catalogue() -> Catalogue:
    specs = [ModelSpec("first", "org/first"), ModelSpec("second", "org/second")]
    return Catalogue(specs, {}, Settings())


def test_a_model_that_was_never_offered_is_answered_with_those_that_are(
    catalogue: Catalogue,
) -> None:
    with pytest.raises(ModelNotAvailable, match="no 'third', but first, second"):
        catalogue.find("third")


def test_a_withdrawn_model_is_answered_with_the_reason(catalogue: Catalogue) -> None:
    catalogue.withdraw(catalogue.find("second"), "second (SanaPipeline) has no such pipeline")
    assert [offer.spec.name for offer in catalogue.offers] == ["first"]
    with pytest.raises(ModelNotAvailable) as raised:
        catalogue.find("second")
    assert raised.value.detail == (
        "model: second (SanaPipeline) has no such pipeline; this node has first"
    )


def test_without_its_default_a_node_is_of_no_use(catalogue: Catalogue) -> None:
    with pytest.raises(SetupError, match="set NODE_MODEL to one that has"):
        catalogue.withdraw(catalogue.default, "first (SanaPipeline) has no such pipeline")
    assert catalogue.default.spec.name == "first"
