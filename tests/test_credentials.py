"""Content credentials: noticed in every container, read without a network, apart from the score."""

from __future__ import annotations

import datetime
import io
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unmasked.inspection.credentials import BOX, find_store, read_credentials
from unmasked.inspection.file_facts import facts_pool, file_facts
from unmasked.inspection.page import _credentials
from unmasked.inspection.records import Credentials
from unmasked.preprocessing.config import PreprocessConfig

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CLAIMED = {
    "claim_generator_info": [{"name": "test camera", "version": "1.0"}],
    "title": "a\x1b[31m picture",
    "assertions": [
        {
            "label": "c2pa.actions",
            "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE}]},
        }
    ],
}


def make_chain() -> tuple[str, str]:
    """Certificates of a signer and of who vouches for it, and the signer's key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text):
        words = ((NameOID.COMMON_NAME, text), (NameOID.ORGANIZATION_NAME, "Made for a test"))
        return x509.Name([x509.NameAttribute(*word) for word in words])

    uses = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    uses += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    began = datetime.datetime(2026, 1, 1)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    made = []
    for number, (whose, key) in enumerate(zip(("Voucher", "Signer"), keys, strict=True)):
        is_voucher = number == 0
        allowed = {use: use == ("key_cert_sign" if is_voucher else "digital_signature") for use in uses}
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(whose))
            .issuer_name(name("Voucher"))
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(began)
            .not_valid_after(began + datetime.timedelta(3650))
            .add_extension(x509.BasicConstraints(is_voucher, None), True)
            .add_extension(x509.KeyUsage(**allowed), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if not is_voucher:
            mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key())
            builder = builder.add_extension(mail, False).add_extension(issuer, False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (made[1] + made[0]).decode(), keys[1].private_bytes(*how).decode()


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Path:
    """A JPEG picture with signed credentials."""
    c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed (the extra c2pa)")
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 200)).save(plain, "JPEG")
    plain.seek(0)
    chain, key = make_chain()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain.encode(), key.encode(), None))
    path = tmp_path_factory.mktemp("signed") / "signed.jpg"
    offline = c2pa.Context.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})
    with open(path, "wb+") as stream, c2pa.Builder(json.dumps(CLAIMED), context=offline) as builder:
        builder.sign(signer, "image/jpeg", plain, stream)
    return path


def test_what_a_signed_picture_claims_is_read_in_the_process_that_has_no_network(signed):
    pool = facts_pool(PreprocessConfig())
    try:
        facts = file_facts([signed], pool)[signed]
    finally:
        pool.stop()
    found = facts.credentials
    assert (found.place, found.claims["made with"]) == ("JPEG, APP11", "test camera 1.0")
    assert found.claims["signed by"] == "Signer Made for a test"
    assert (found.claims["actions"], found.claims["source"]) == ("c2pa.created", "trainedAlgorithmicMedia")
    assert found.claims["title"] == "a [31m picture"  # nothing that steers a terminal
    # Nobody here knows the voucher, and nothing is asked.
    assert found.state == "Valid: signingCredential.untrusted"
    assert found.reader.startswith("c2pa-python ")
    assert (facts.format, facts.width_px) == ("JPEG", 64)


def test_a_tag_that_is_no_utf_8_is_told_and_can_be_written(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "caf#"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())
    path = tmp_path / "a.mkv"
    path.write_bytes(path.read_bytes().replace(b"caf#", b"caf\xe9"))  # Latin-1
    pool = facts_pool(PreprocessConfig())
    try:
        title = file_facts([path], pool)[path].notes["title"]
    finally:
        pool.stop()
    assert (title[:3], title.encode()) == ("caf", b"caf\xef\xbf\xbd")


def test_changed_pixels_are_told_by_the_hash(signed, tmp_path):
    content = bytearray(signed.read_bytes())
    content[-40] ^= 1
    (tmp_path / "changed.jpg").write_bytes(bytes(content))
    found = read_credentials(tmp_path / "changed.jpg")
    assert found.state.startswith("Invalid")
    assert "assertion.dataHash.mismatch" in found.state
    (tmp_path / "half.jpg").write_bytes(signed.read_bytes()[:2000])
    assert read_credentials(tmp_path / "half.jpg").state.startswith("cannot be read")


def test_without_the_library_credentials_are_noticed_and_the_page_says_how_to_read_them(signed, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("unmasked.inspection.credentials.version", absent)
    found = read_credentials(signed)
    assert found == Credentials(place="JPEG, APP11")
    page = str(_credentials(found))
    assert "pip install unmasked[c2pa]" in page
    assert "no score and no verdict" in page


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (box(b"ftyp", b"isom") + box(b"free", b"a" * 9) + box(b"uuid", BOX + b"a"), "ISO media, uuid box"),
        (box(b"ftyp", b"avif") + box(b"uuid", bytes(16)) + box(b"mdat", BOX), ""),
        (b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + bytes(4) + bytes(4) + b"caBX" + bytes(4), "PNG, caBX"),
        (b"RIFF" + bytes(4) + b"WEBP" + b"VP8 \1\0\0\0a\0" + b"C2PA" + bytes(4), "RIFF, C2PA"),
        (b"\xff\xd8\xff\xe0\0\2\xff\xda\0\2\xff\xeb\0\x0eJP c2pa", ""),  # in the picture itself
        (b"", ""),
    ],
)
def test_stores_are_noticed_where_each_container_keeps_them(content, place):
    assert find_store(io.BytesIO(content)) == place


@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP", b"\0\0\0\x08ftyp", b""]),
    st.binary(max_size=80),
)
def test_any_bytes_are_looked_through_in_bounded_time(start, rest):
    assert find_store(io.BytesIO(start + rest)) in (
        *("", "JPEG, APP11", "PNG, caBX", "RIFF, C2PA", "ISO media, uuid box"),
    )
