"""How components are found by name, brought up, and replaced."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from contracts.discovery import LoadState
from node import component as component_module
from node.component import Component, ComponentLoader, ComponentRegistry, Health
from node.errors import SetupError
from tests.fakes import ScriptedComponent
from tests.unit.builders import job


class Built(ScriptedComponent):
    """A component built from settings; what happens to it is written down."""

    def __init__(self, settings: Any, fault: BaseException | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.fault = fault
        self.closed = False

    async def load(self, report: Any) -> None:
        report(LoadState(stage="loading", model="scripted"))
        if self.fault is not None:
            raise self.fault
        await super().load(report)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def registry() -> ComponentRegistry:
    return ComponentRegistry()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points as if installed; a test adds to them."""
    points: list[EntryPoint] = []

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [each for each in points if each.group == group and name in (None, each.name)]

    monkeypatch.setattr(component_module, "entry_points", entry_points)
    return points


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("made_for_tests")
    monkeypatch.setitem(sys.modules, "made_for_tests", made)
    return made


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, component_module.ENTRY_POINT_GROUP)


def test_a_registered_component_is_found_by_its_name(registry: ComponentRegistry) -> None:
    registry.register("mine", Built)
    assert registry.find("mine") is Built
    assert "mine" in registry.names()


def test_a_name_is_given_once(registry: ComponentRegistry) -> None:
    registry.register("mine", Built)
    with pytest.raises(ValueError, match="'mine' is already registered"):
        registry.register("mine", Built)


def test_an_unregistered_name_is_free_again(registry: ComponentRegistry) -> None:
    registry.register("mine", Built)
    registry.unregister("mine")
    assert "mine" not in registry.names()
    registry.register("mine", Built)
    assert registry.find("mine") is Built


def test_what_was_never_registered_cannot_be_unregistered(registry: ComponentRegistry) -> None:
    with pytest.raises(KeyError):
        registry.unregister("mine")


def test_two_registries_know_nothing_of_each_other(registry: ComponentRegistry) -> None:
    ComponentRegistry().register("mine", Built)
    assert "mine" not in registry.names()


def test_an_installed_component_is_found_by_its_entry_point(
    registry: ComponentRegistry, installed: list[EntryPoint], module: ModuleType
) -> None:
    module.Built = Built
    installed.append(point("theirs", "made_for_tests:Built"))
    assert registry.find("theirs") is Built
    assert registry.names() == ["theirs"]


def test_this_distribution_installs_text2image() -> None:
    assert "text2image" in ComponentRegistry().names()


def test_a_registered_component_goes_before_an_installed_one(
    registry: ComponentRegistry, installed: list[EntryPoint]
) -> None:
    installed.append(point("both", "nowhere:Nothing"))
    registry.register("both", Built)
    assert registry.find("both") is Built


def test_an_entry_point_installed_twice_is_refused_by_name(
    registry: ComponentRegistry, installed: list[EntryPoint]
) -> None:
    installed += [point("both", "one:A"), point("both", "two:B")]
    with pytest.raises(SetupError, match="installed more than once: one:A, two:B"):
        registry.find("both")


def test_any_class_can_be_named_by_its_module(
    registry: ComponentRegistry, module: ModuleType
) -> None:
    module.Built = Built
    assert registry.find("made_for_tests:Built") is Built


def test_an_unknown_name_tells_which_there_are(
    registry: ComponentRegistry, installed: list[EntryPoint]
) -> None:
    installed.append(point("theirs", "somewhere:Component"))
    registry.register("mine", Built)
    with pytest.raises(SetupError, match="no component 'nobody'; there are: mine, theirs"):
        registry.find("nobody")


@pytest.mark.parametrize("reference", ["no_such_module:C", "made_for_tests:NoSuchClass"])
def test_a_reference_that_cannot_be_imported_is_one_clear_line(
    registry: ComponentRegistry, module: ModuleType, reference: str
) -> None:
    with pytest.raises(SetupError, match=f"component '{reference}' cannot be imported"):
        registry.find(reference)


def test_a_reference_to_something_else_is_refused(
    registry: ComponentRegistry, module: ModuleType
) -> None:
    module.answer = 42
    with pytest.raises(SetupError, match="not a Component class or a factory"):
        registry.find("made_for_tests:answer")


def test_a_component_is_built_from_the_settings(registry: ComponentRegistry) -> None:
    registry.register("mine", Built)
    settings = object()
    built = ComponentLoader(registry, settings).build("mine")
    assert built.settings is settings
    assert not built.loaded


def test_a_factory_that_builds_something_else_is_refused(registry: ComponentRegistry) -> None:
    registry.register("mine", lambda _: "no component")
    with pytest.raises(SetupError, match="'mine' builds a str, not a Component"):
        ComponentLoader(registry, None).build("mine")


async def test_loading_reports_and_brings_the_component_up(registry: ComponentRegistry) -> None:
    reports: list[LoadState] = []
    built = Built(None)
    assert await ComponentLoader(registry, None).load(built, reports.append) is built
    assert built.loaded
    assert [each.stage for each in reports] == ["loading"]


@pytest.mark.parametrize("fault", [SetupError("no such model"), KeyboardInterrupt()])
async def test_a_component_that_cannot_be_loaded_is_closed(
    registry: ComponentRegistry, fault: BaseException
) -> None:
    built = Built(None, fault)
    with pytest.raises(type(fault)):
        await ComponentLoader(registry, None).load(built, lambda _: None)
    assert built.closed


async def test_the_old_component_is_closed_once_the_new_one_is_up(
    registry: ComponentRegistry,
) -> None:
    old = Built(None)
    registry.register("new", Built)
    new = await ComponentLoader(registry, None).replace(old, "new", lambda _: None)
    assert (new.loaded, new.closed, old.closed) == (True, False, True)


async def test_the_old_component_stays_when_the_new_one_cannot_be_loaded(
    registry: ComponentRegistry,
) -> None:
    old = Built(None)
    registry.register("new", lambda settings: Built(settings, SetupError("no such model")))
    with pytest.raises(SetupError):
        await ComponentLoader(registry, None).replace(old, "new", lambda _: None)
    assert not old.closed


async def test_what_a_component_need_not_say_has_a_default() -> None:
    class Minimal(Component):
        name, service_type, description = "minimal", "OTHER", "As little as possible"
        request_model = result_model = None

        async def load(self, report: Any) -> None:
            return None

        async def invoke(self, request: Any, invocation: Any) -> Any:
            return None

    minimal = Minimal()
    minimal.admit(job().request)
    await minimal.close()
    assert (minimal.health(), minimal.models(), minimal.device()) == (Health(True), [], None)
