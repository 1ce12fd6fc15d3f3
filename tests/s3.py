"""An account for the servers of the tests that speak S3, on loopback; no such account exists anywhere."""

from __future__ import annotations

import fsspec
import pytest

KEY, SECRET = "AKIAOFTHETEST", "a-secret-that-nobody-may-print"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def log_in(environment: pytest.MonkeyPatch, **more: str) -> None:
    """Put the account, and ``more``, into the environment, which alone says where a store is and who may read it."""
    for name, value in {**ACCOUNT, **more}.items():
        environment.setenv(name, value)
    forget_stores()


def forget_stores() -> None:
    """fsspec keeps file systems by their options; the address, which the environment says, is none of them."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
