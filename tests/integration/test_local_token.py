"""`make token USER=<uuid>`."""

import subprocess
from pathlib import Path

import jwt
import pytest

from tests.support.system import passed_on

ROOT = Path(__file__).parents[2]
USER = "5f0c1f6e-7d0e-4a8e-9d58-0b6f1f7f2a11"


def make_token(data_dir: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # The environment is the tests' own business: make must not set one up, whatever is newer.
        ["make", "--no-print-directory", "-o", ".venv/.dev", "-o", ".venv/.local", "token", *arguments],
        cwd=ROOT,
        env={**passed_on(), "USER": "root", "DATA_DIR": str(data_dir), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_token_is_of_the_user_and_of_the_kept_secret(tmp_path: Path) -> None:
    made = make_token(tmp_path, f"USER={USER}", TOKEN_DAYS="2")
    assert made.returncode == 0, made.stderr
    secret = (tmp_path / "secrets" / "auth_jwt_secret").read_text().strip()
    claims = jwt.decode(made.stdout.strip(), secret, algorithms=["HS256"])
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (USER, 2 * 86_400)
    again = make_token(tmp_path, f"USER={USER}")
    assert jwt.decode(again.stdout.strip(), secret, algorithms=["HS256"])["sub"] == USER


def test_a_given_secret_signs_it(tmp_path: Path) -> None:
    made = make_token(tmp_path, f"USER={USER}", AUTH_JWT_SECRET="g" * 32)
    assert jwt.decode(made.stdout.strip(), "g" * 32, algorithms=["HS256"])["sub"] == USER
    assert not (tmp_path / "secrets" / "auth_jwt_secret").exists()


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        ((), {}, "token: say for whom: make token USER="),
        (("USER=root",), {}, "token: 'root' is no uuid; "),
        (("USER=$$(touch pwned)",), {}, " is no uuid; "),
        ((f"USER={USER}",), {"AUTH_JWKS_URL": "https://id.example/keys"}, "token: AUTH_JWKS_URL is set"),
        ((f"USER={USER}",), {"DATA_DIR": "/proc/reelway"}, "token: DATA_DIR /proc/reelway: "),
    ],
)
def test_what_stands_in_the_way_is_said(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    made = make_token(tmp_path, *arguments, **env)
    assert made.returncode == 2
    assert made.stdout == ""
    lines = [line for line in made.stderr.splitlines() if not line.startswith("make: ")]
    assert len(lines) == 1 and said in lines[0]
