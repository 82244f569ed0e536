"""MovieLens: the folder of ratings.csv and movies.csv, as GroupLens publishes it."""

from typing import Literal

from prefrec_ray.logs.contract import Side
from prefrec_ray.logs.log import Log
from prefrec_ray.logs.side_tables import ItemsTable
from prefrec_ray.logs.sources import FilesSource, LogSource


class MovieLens(LogSource):
    """The keys of `source`: the folder."""

    kind: Literal["movielens"]
    path: str

    def open_log(self, seed: int, side: Side | None) -> Log:
        """Return the log: a rating is an impression, its stars are the feedback."""
        files = FilesSource(
            kind="files",
            path=f"{self.path}/ratings.csv",
            user="userId",
            item="movieId",
            time="timestamp",
            time_unit="s",
            feedback={"stars": "rating"},
            items=ItemsTable(path=f"{self.path}/movies.csv", id="movieId", title="title", features=["genres"]),
        )
        return files.open_log(seed, side)
