use serde_json::json;

use super::super::mapping::{self, MappingError};
use super::super::resource::{self, Real, Resource, ResourceValue};
use crate::coap::{Response, format};

fn resource(path: &str, value: ResourceValue) -> Resource {
    let path = path.parse().unwrap();
    Resource { path, value }
}

fn real(number: f64) -> ResourceValue {
    ResourceValue::Float(Real::new(number).unwrap())
}

/// A document with one value and this entry for `/3311/0/5851`.
fn with(value: serde_json::Value, target: serde_json::Value) -> String {
    let resources = json!({"/3311/0/5851": target});
    json!({"dim": value, "lwm2m": {"resources": resources}}).to_string()
}

#[test]
fn a_document_sets_the_values_of_resources() {
    let document = json!({
        "dim": 80, "name": "Harbour", "on": true, "pole": 7, "key": "00ff",
        "night": {"from_h": 22, "power/w": -125},
        "lwm2m": {
            "resources": {
                "/3311/1/5851": {"key": "/dim", "type": "integer", "min": 0, "max": 100},
                "/3311/0/5851": {"key": "/dim", "type": "integer"},
                "/3311/0/5850": {"key": "/on", "type": "boolean"},
                "/3305/0/5800": {"key": "/night/power~1w", "type": "float", "decimals": 1},
                "/1/0/1": {"key": "/lifetime", "type": "integer", "default": 300},
                "/1/0/2": {"key": "/absent", "type": "integer"},
                "/10241/0/1": {"key": "/name", "type": "string"},
                "/10241/0/2": {"key": "/key", "type": "opaque"}
            },
            "ignore": ["/pole", "/night/from_h"]
        }
    });
    let values = mapping::resources(&document.to_string()).unwrap().unwrap();
    let expected = [
        resource("/1/0/1", ResourceValue::Integer(300)),
        resource("/3305/0/5800", real(-12.5)),
        resource("/3311/0/5850", ResourceValue::Boolean(true)),
        resource("/3311/0/5851", ResourceValue::Integer(80)),
        resource("/3311/1/5851", ResourceValue::Integer(80)),
        resource("/10241/0/1", ResourceValue::Text("Harbour".to_owned())),
        resource("/10241/0/2", ResourceValue::Opaque(vec![0, 255])),
    ];
    assert_eq!(values, expected);
    assert_eq!(mapping::resources(r#"{"dim":80}"#), Ok(None));
}

#[test]
fn what_does_not_fit_is_refused_with_a_code() {
    let integer = json!({"key": "/dim", "type": "integer", "min": 0, "max": 100});
    let code = |document: &str| {
        let error: MappingError = mapping::resources(document).unwrap_err();
        error.to_string().split(':').next().unwrap().to_owned()
    };
    for value in [json!(101), json!(-1), json!(i64::MAX)] {
        assert_eq!(code(&with(value, integer.clone())), "lwm2m.range");
    }
    for value in [
        json!("80"),
        json!(true),
        json!(null),
        json!([80]),
        json!({"a": 1}),
    ] {
        assert_eq!(code(&with(value, integer.clone())), "lwm2m.type");
    }
    let opaque = json!({"key": "/dim", "type": "opaque"});
    assert_eq!(code(&with(json!("0g"), opaque)), "lwm2m.type");
    let other_key = json!({"key": "/dimm", "type": "integer"});
    assert_eq!(code(&with(json!(1), other_key)), "lwm2m.unmapped");
    for target in [
        json!({"key": "/dim", "type": "number"}),
        json!({"key": "/dim", "type": "integer", "maximum": 4}),
        json!({"key": "/dim", "type": "float", "decimals": 10}),
        json!({"key": "/dim", "type": "integer", "decimals": 1}),
        json!({"type": "integer"}),
        json!(7),
    ] {
        assert_eq!(
            code(&with(json!(1), target.clone())),
            "lwm2m.mapping",
            "{target}"
        );
    }
    let nested = json!({"a": {"b": 1, "c": 2}, "lwm2m": {"resources": {}, "ignore": ["/a/b"]}});
    let error = mapping::resources(&nested.to_string()).unwrap_err();
    assert_eq!(error, MappingError::Unmapped("/a/c".to_owned()));
    let many: serde_json::Map<_, _> = (0..65)
        .map(|n| {
            (
                format!("/3311/{n}/5851"),
                json!({"key": "/d", "type": "integer"}),
            )
        })
        .collect();
    let many = json!({"d": 1, "lwm2m": {"resources": many}});
    assert_eq!(
        mapping::resources(&many.to_string()),
        Err(MappingError::TooMany)
    );
}

/// An operator may configure a device, and must not be able to change its keys or update it.
#[test]
fn a_configuration_reaches_no_keys_and_no_firmware() {
    let paths = [
        "/0/0/5",
        "/2/0/3",
        "/5/0/1",
        "/9/0/4",
        "/21/0/3",
        "/23/0/1",
        "/33000/0/1",
        "/3311/0",
        "/3311/0/5851/0",
        "3311/0/5851",
        "/3311/0/05851",
        "/3311/-1/1",
        "/65535/0/1",
        "/70000/0/1",
    ];
    for path in paths {
        let resources = json!({path: {"key": "/d", "type": "integer"}});
        let document = json!({"d": 1, "lwm2m": {"resources": resources}}).to_string();
        let refused = Err(MappingError::Path(path.to_owned()));
        assert_eq!(mapping::resources(&document), refused);
    }
}

#[test]
fn values_read_back_as_they_were_written_in_every_format() {
    let values = [
        ResourceValue::Boolean(true),
        ResourceValue::Integer(0),
        ResourceValue::Integer(-129),
        ResourceValue::Integer(70_000),
        ResourceValue::Integer(i64::MIN),
        real(-12.5),
        real(0.1),
        ResourceValue::Text("Grüße".repeat(60)),
        ResourceValue::Opaque(vec![7; 300]),
    ];
    let formats = [
        format::TEXT,
        format::OCTETS,
        format::LWM2M_TLV,
        format::SENML_CBOR,
        format::SENML_JSON,
    ];
    let mut written = 0;
    for value in values {
        let one = resource("/3311/0/5851", value.clone());
        for content_format in formats {
            let Some(body) = resource::write_one(&one, content_format) else {
                continue;
            };
            written += 1;
            let response = Response::content(content_format, body);
            let read = resource::read(&response, one.path, &value);
            assert_eq!(read.as_ref(), Some(&value), "{content_format}");
            // In another type it is no value, or another one.
            let other = ResourceValue::Opaque(Vec::new());
            assert_ne!(resource::read(&response, one.path, &other), Some(other));
        }
    }
    assert_eq!(written, 8 * 4 + 3 + 1 - 1);
}

/// As other implementations write them: LwM2M 1.1 core, section 7.4.3 and RFC 8428.
#[test]
fn values_are_encoded_as_the_standards_show() {
    let dim = [resource("/3311/1/5851", ResourceValue::Integer(80))];
    let tlv = resource::write_all(&dim, format::LWM2M_TLV).unwrap();
    assert_eq!(tlv, [0xE1, 0x16, 0xDB, 80]);
    let created = resource::create(dim[0].path.of, &dim, format::LWM2M_TLV).unwrap();
    assert_eq!(created, [0x04, 1, 0xE1, 0x16, 0xDB, 80]);
    let cbor = resource::write_all(&dim, format::SENML_CBOR).unwrap();
    assert_eq!(cbor, *b"\x81\xa2\x00\x6c/3311/1/5851\x02\x18\x50");
    let json = resource::write_all(&dim, format::SENML_JSON).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json, json!([{"n": "/3311/1/5851", "v": 80}]));
    let names = resource::names(["/3/0/0".to_owned()].into_iter(), format::SENML_CBOR).unwrap();
    assert_eq!(names, *b"\x81\xa1\x00\x66/3/0/0");
}
