"""Whose tokens the API believes: an OpenID Connect issuer's, Firebase's, or the local key's.

Exactly one, chosen by the settings; without any the development key of the data folder, of which
the log warns.
"""

import structlog

from api.auth import TokenVerifier
from api.dev_keys import load_or_create
from api.jwks import JwksKeys, JwksSource
from funnel.data_folder import data_folder
from funnel.settings import Settings

log = structlog.get_logger("funnel")

# https://firebase.google.com/docs/auth/admin/verify-id-tokens, "using a third-party JWT library".
FIREBASE_ISSUER = "https://securetoken.google.com/"
FIREBASE_KEYS = (
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
)


def verifier_of(settings: Settings) -> TokenVerifier:
    """What checks tokens, as the settings say."""
    if settings.firebase_project:
        return firebase(settings.firebase_project, keys_url=FIREBASE_KEYS)
    if settings.oidc_issuer:
        source = JwksSource(issuer=settings.oidc_issuer, jwks_url=settings.oidc_jwks_url)
        return TokenVerifier(
            JwksKeys(source, algorithm=settings.oidc_algorithm),
            algorithm=settings.oidc_algorithm,
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
        )
    log.warning("tokens of the local development key are accepted", action="development_key")
    return load_or_create(data_folder(settings)).verifier()


def firebase(project: str, *, keys_url: str) -> TokenVerifier:
    """Firebase's ID tokens of one project, with the checks that its documentation demands.

    `organization_id` and `scope` are custom claims of the user.
    """
    issuer = FIREBASE_ISSUER + project
    return TokenVerifier(
        JwksKeys(JwksSource(issuer=issuer, jwks_url=keys_url), algorithm="RS256"),
        algorithm="RS256",
        issuer=issuer,
        audience=project,
        required_claims=("iat", "auth_time"),
    )
