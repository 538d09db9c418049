"""The labelled sets that can be built from their official lists, by name."""

from cmav.data import storage
from cmav.media.manifest import Manifest, ManifestError
from cmav.prep import action_lists, sound_lists

PHYSICAL_SPLIT = "videos"  # no official split of any set is called so

# Each is called with --videos, --lists and the name of the split to build.
READERS = {
    "ucf101": action_lists.ucf101,
    "hmdb51": action_lists.hmdb51,
    "kinetics_sounds": action_lists.kinetics_sounds,
    "esc50": sound_lists.esc50,
    "dcase2013": sound_lists.dcase2013,
}
# Where the lists are to be had; dcase2013 has none.
LISTS = {
    "ucf101": action_lists.UCF101_SOURCE,
    "hmdb51": action_lists.HMDB51_SOURCE,
    "kinetics_sounds": action_lists.KINETICS_SOURCE,
    "esc50": sound_lists.ESC50_SOURCE,
}


def read(name: str, videos: str, lists: str | None, split: str | None) -> Manifest:
    """Lists a labelled set: one split, each video with its class and its official splits.

    Args:
      name: of the set, in `READERS`.
      videos: the folder below which its files are.
      lists: the folder of its lists; None for sets without any.
      split: the split to build; None: "videos".

    Raises:
      ManifestError: where the set is not known, or folders or lists are missing or wrong.
    """
    if name not in READERS:
        raise ManifestError(f"--dataset {name} is not known; there are {', '.join(READERS)} and tfds:NAME/CONFIG")
    if name in LISTS and lists is None:
        raise ManifestError(f"--dataset {name} needs --lists, the folder of its official lists: {LISTS[name]}")
    for flag, folder in (("videos", videos), ("lists", lists)):
        if folder is not None and not storage.is_folder(folder):
            raise ManifestError(f"--{flag} {folder}: there is no such folder")
    return READERS[name](videos, lists, split or PHYSICAL_SPLIT)
