//! Values of Things: TLV, SenML in JSON and CBOR, plain CBOR and text, and the links of a
//! registration.
#![no_main]

use lamplighter_gateway::coap::{Code, Response, format};
use lamplighter_gateway::lwm2m::{link_format, senml, value};
use libfuzzer_sys::fuzz_target;

const FORMATS: [u16; 7] = [
    format::LWM2M_TLV,
    format::LWM2M_TLV_OLD,
    format::SENML_CBOR,
    format::CBOR,
    format::SENML_JSON,
    format::LWM2M_JSON,
    format::TEXT,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let content_format = FORMATS[usize::from(*kind) % FORMATS.len()];
    let response = Response::content(content_format, bytes.to_vec());
    assert_eq!(response.code, Code::CONTENT);
    for id in [3, 5] {
        value::integer(&response, id);
        value::text(&response, id);
        value::integers(&response, id);
    }
    senml::from_cbor(bytes);
    senml::from_json(bytes);
    link_format::parse(bytes).ok();
});
