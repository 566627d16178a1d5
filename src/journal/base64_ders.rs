//! DER as an array of base64 texts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<S: Serializer>(ders: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ders.iter().map(|der| BASE64.encode(der)))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| BASE64.decode(text)).collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}
