"""
The structure of the package in numbers: ``python -m tests.house``.

A room is a folder at the top of the package; a loose module at the top counts as a room of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

PACKAGE = "airflow_prs"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class House:
    """
    What imports what.

    :param modules: each module with the modules that it imports, those for annotations alone included.
    """

    modules: Mapping[str, frozenset[str]]

    @property
    def lines(self) -> int:
        """Lines of all modules."""
        return sum(len(path.read_text().splitlines()) for path in (ROOT / PACKAGE).rglob("*.py"))

    @property
    def loose(self) -> list[str]:
        """The modules that are in no room."""
        return [module for module in self.modules if module.count(".") == 1]

    @property
    def folders(self) -> set[str]:
        """The folders that hold modules, those inside of others included."""
        return {module.rpartition(".")[0] for module in self.modules} - {PACKAGE}

    @property
    def rooms(self) -> dict[str, set[str]]:
        """Each room with the rooms that it imports."""
        rooms: dict[str, set[str]] = {}
        for module, imported in self.modules.items():
            room = _room_of(module)
            rooms.setdefault(room, set()).update({_room_of(other) for other in imported} - {room})
        return rooms


def _room_of(module: str) -> str:
    return module.split(".")[1]


def look_at_house() -> House:
    """Read the imports of all modules; packages hold none and are left out."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    names = {module for module in graph.modules if not graph.find_children(module)}
    return House({name: frozenset(graph.find_modules_directly_imported_by(name)) & names for name in sorted(names)})


def levels(imports: Mapping[str, Iterable[str]]) -> int:
    """
    Return how many levels the imports have, the lowest of which imports nothing.

    :raises graphlib.CycleError: if some import each other.
    """
    order = TopologicalSorter(imports)
    order.prepare()
    count = 0
    while order.is_active():
        order.done(*order.get_ready())
        count += 1
    return count


def _levels_or_circle(imports: Mapping[str, Iterable[str]]) -> str:
    try:
        return str(levels(imports))
    except CycleError as error:
        return f"none, as there is a circle: {' -> '.join(error.args[1])}"


def main() -> None:
    """Print the numbers."""
    house = look_at_house()
    for name, number in {
        "modules": len(house.modules),
        "lines": house.lines,
        "loose modules": len(house.loose),
        "folders": len(house.folders),
        "rooms": len(house.rooms),
        "imports between rooms": sum(map(len, house.rooms.values())),
        "levels of modules": _levels_or_circle(house.modules),
        "levels of rooms": _levels_or_circle(house.rooms),
    }.items():
        print(f"{name:<22} {number}")


if __name__ == "__main__":
    main()
