//! Public keys as cosign writes them (PEM, *SubjectPublicKeyInfo*): ECDSA on P-256 and P-384, Ed25519.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// What stands before the key itself in DER (RFC 5480, RFC 8410), which says of which kind it is.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00,
];
const EDWARDS: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key.
pub(super) struct Key(UnparsedPublicKey<Vec<u8>>);

impl Key {
    pub(super) fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| "no public key (PEM) in it")?;
        let kinds: [(&[u8], usize, &'static dyn VerificationAlgorithm); 3] =
            [(P256, 65, &ECDSA_P256_SHA256_ASN1), (P384, 97, &ECDSA_P384_SHA256_ASN1), (EDWARDS, 32, &ED25519)];
        let fitting = kinds.into_iter().find_map(|(prefix, length, algorithm)| {
            let key = der.as_ref().strip_prefix(prefix).filter(|key| key.len() == length)?;
            Some(Key(UnparsedPublicKey::new(algorithm, key.to_vec())))
        });
        fitting.ok_or_else(|| "a key of a kind that is not supported; want ECDSA P-256, P-384 or Ed25519".into())
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature).is_ok()
    }
}
