"""Dataset folders from other people's metadata and pictures: `python -m training.data danbooru2024 ...`."""
