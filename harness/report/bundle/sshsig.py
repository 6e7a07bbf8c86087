"""Signatures as `ssh-keygen -Y sign` makes them (SSHSIG, OpenSSH's PROTOCOL.sshsig). Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from harness.base.errors import EvidenceError
from harness.base.text import inert

LEAST_RSA_BITS = 2048
_ARMOUR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n((?:[A-Za-z0-9+/=]{1,70}\n)+)-----END SSH SIGNATURE-----\n")
_PREAMBLE = b"SSHSIG"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_CURVES = {b"ecdsa-sha2-nistp256": hashes.SHA256(), b"ecdsa-sha2-nistp384": hashes.SHA384()}
_KINDS = (b"ssh-ed25519", b"ssh-rsa", *_CURVES)
_KINDS_TOLD = "ed25519, rsa, ecdsa-sha2-nistp256 and 384"
_RSA = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}


@dataclass(frozen=True)
class SshSignature:
    """What a signature says of itself; `key` is the public key as ssh writes it (RFC 4253, section 6.6)."""

    key: bytes
    namespace: str
    hash: bytes
    algorithm: bytes
    value: bytes

    @property
    def key_type(self) -> str:
        return _strings(self.key, 1)[0].decode("ascii", "backslashreplace")

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key)

    @property
    def file_name(self) -> str:
        """What the file is called in a bundle: by its key, so that there is one for each."""
        return f"{hashlib.sha256(self.key).hexdigest()[:32]}.sig"

    def weakness(self) -> str:
        """Why no signature by such a key counts; empty: it may. A certificate is not the key in it."""
        if self.key_type.encode() not in _KINDS:
            return f"{inert(self.key_type)} is no kind of key that counts here: {_KINDS_TOLD} do"
        key = _loaded(self.key)
        if isinstance(key, RSAPublicKey):
            if key.key_size < LEAST_RSA_BITS:
                return f"an RSA key of {key.key_size} bits is weak; {LEAST_RSA_BITS} is the least"
            return "" if self.algorithm in _RSA else f"{inert(self.algorithm.decode('latin-1'))} is weak: it is SHA-1"
        return ""

    def verifies(self, message: bytes) -> bool:
        """Whether it is one of `message` by its key. EvidenceError for a key that cannot be read."""
        digest = _HASHES[self.hash](message).digest()
        signed = _PREAMBLE + b"".join(map(_string, (self.namespace.encode("latin-1"), b"", self.hash, digest)))
        key = _loaded(self.key)
        try:
            if isinstance(key, Ed25519PublicKey) and self.algorithm == b"ssh-ed25519":
                key.verify(self.value, signed)
            elif isinstance(key, RSAPublicKey) and self.algorithm in _RSA:
                key.verify(self.value, signed, PKCS1v15(), _RSA[self.algorithm])
            elif isinstance(key, EllipticCurvePublicKey) and self.algorithm == self.key_type.encode() in _CURVES:
                r, s = (int.from_bytes(one, "big") for one in _strings(self.value, 2))
                key.verify(encode_dss_signature(r, s), signed, ECDSA(_CURVES[self.algorithm]))
            else:
                return False
        except InvalidSignature:
            return False
        return True


def parse_signature(content: bytes) -> SshSignature:
    """EvidenceError for what is none.

    Accepted format: the armour; in it "SSHSIG", version 1, and the strings key, namespace, reserved (empty), hash
    (sha256, sha512) and signature.
    """
    match = _ARMOUR.fullmatch(content)
    try:
        blob = base64.b64decode(match[1].replace(b"\n", b""), validate=True) if match else b""
    except binascii.Error:
        blob = b""
    if not blob.startswith(_PREAMBLE + b"\0\0\0\1"):
        raise EvidenceError("it is no signature of ssh-keygen, version 1")
    key, namespace, reserved, digest, signature = _strings(blob[len(_PREAMBLE) + 4 :], 5)
    if reserved or digest not in _HASHES:
        raise EvidenceError("it is a signature of a kind that ssh-keygen does not make")
    algorithm, value = _strings(signature, 2)
    return SshSignature(key, namespace.decode("latin-1"), digest, algorithm, value)


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _loaded(blob: bytes) -> object:
    kind = _strings(blob, 1)[0]
    try:
        return load_ssh_public_key(kind + b" " + base64.b64encode(blob))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceError(f"its key cannot be read: {inert(str(error))}") from error


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(data: bytes, number: int) -> list[bytes]:
    """So many strings (RFC 4251, section 5); of a key the first, of all else exactly these."""
    found = []
    for _ in range(number):
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length:
            raise EvidenceError("a signature or a key is cut off")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    if data and number > 1:
        raise EvidenceError("behind a signature there is more")
    return found
