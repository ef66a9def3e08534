"""Addresses of the project in its metadata: those of the repository and the site that a release is built from.

The repository may move and be forked, so its address stands in no file: the workflows set `REPO_URL` and `SITE_URL`, as
for the site. A build without them names the papers alone.
"""

import os

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ProjectUrls(MetadataHookInterface):
    """Fills in `project.urls`."""

    def update(self, metadata: dict) -> None:
        urls = {"RAML paper": "https://arxiv.org/abs/1609.00150"}
        repository, site = (os.environ.get(name, "").rstrip("/") for name in ("REPO_URL", "SITE_URL"))
        if repository:
            urls |= {
                "Source": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{repository}/blob/main/CHANGELOG.md",
            }
        if site:
            urls["Documentation"] = f"{site}/"
        metadata["urls"] = urls
