use lamplighter_types::{Action, Fact, Hash, Notification, Place, Scope};

use super::{action, notification, short, words};

/// Facts in JSON, with their lines; `HASH` stands for a hash or key.
const FACTS: &[(&str, &str)] = &[
    (
        r#"{"organization_registered":{"organization":"city"}}"#,
        "organization city registered",
    ),
    (
        r#"{"account_registered":{"account":"anna"}}"#,
        "account anna registered",
    ),
    (
        r#"{"role_granted":{"account":"anna","role":"operator","scope":"north"}}"#,
        "anna is now operator of north",
    ),
    (
        r#"{"role_revoked":{"account":"anna","role":"approver","scope":""}}"#,
        "anna is no longer approver of the whole city",
    ),
    (
        r#"{"key_added":{"account":"anna","key":"HASH"}}"#,
        "anna has the new key HASH",
    ),
    (
        r#"{"key_revoked":{"account":"anna","key":"HASH"}}"#,
        "the key HASH of anna revoked",
    ),
    (
        r#"{"account_disabled":{"account":"anna"}}"#,
        "account anna disabled",
    ),
    (
        r#"{"account_enabled":{"account":"anna"}}"#,
        "account anna enabled",
    ),
    (
        r#"{"account_recovered":{"account":"anna"}}"#,
        "account anna recovered with a new key",
    ),
    (
        r#"{"approval_withdrawn":{"proposal":"p","by":"anna"}}"#,
        "anna has withdrawn its approval of p",
    ),
    (
        r#"{"proposal_withdrawn":{"proposal":"p"}}"#,
        "the proposal p is withdrawn",
    ),
    (
        r#"{"proposal_expired":{"proposal":"p"}}"#,
        "the proposal p has expired",
    ),
    (
        r#"{"proposal_carried_out":{"proposal":"p"}}"#,
        "the changes of p are made",
    ),
    (
        r#"{"device_reset":{"counters":{"report_counter":1,"security_counter":2,
            "event_sequence":null}}}"#,
        "lamp-1 reset: report counter 1, security counter 2",
    ),
    (
        r#"{"device_key_replaced":{"key":"HASH"}}"#,
        "lamp-1 has the new key HASH",
    ),
    (
        r#""hardware_released""#,
        "the key of lamp-1 may be registered again",
    ),
    (r#""device_registered""#, "lamp-1 registered"),
    (
        r#"{"device_assigned":{"gateway":"gw-1"}}"#,
        "lamp-1 given to gw-1",
    ),
    (
        r#"{"device_assigned":{"gateway":null}}"#,
        "lamp-1 taken from its gateway",
    ),
    (r#""device_tagged""#, "lamp-1 has new tags"),
    (
        r#"{"transfer_offered":{"to":"harbour"}}"#,
        "lamp-1 offered to harbour",
    ),
    (r#""transfer_withdrawn""#, "lamp-1 offered no longer"),
    (
        r#"{"transfer_accepted":{"owner":"harbour"}}"#,
        "lamp-1 belongs to harbour",
    ),
    (
        r#"{"device_suspended":{"reason":"a truck"}}"#,
        "lamp-1 suspended: a truck",
    ),
    (r#""device_resumed""#, "lamp-1 resumed"),
    (
        r#"{"device_decommissioned":{"reason":""}}"#,
        "lamp-1 decommissioned",
    ),
    (
        r#"{"inventory_reported":{"digest":"HASH"}}"#,
        "lamp-1 runs the image HASH",
    ),
    (
        r#"{"device_drifted":{"expected":"HASH","running":"HASH"}}"#,
        "lamp-1 runs the image HASH, not HASH as was confirmed",
    ),
    (
        r#"{"registrant_created":{"registrant":"02ab"}}"#,
        "registrant 02ab created",
    ),
    (
        r#"{"thing_registered":{"nonce":"7"}}"#,
        "Thing with the nonce 7 registered",
    ),
    (
        r#"{"spec_registered":{"spec":"lamp"}}"#,
        "specification lamp registered",
    ),
    (
        r#"{"registrant_linked":{"registrant":"02ab","organization":"city"}}"#,
        "registrant 02ab acts for city",
    ),
    (
        r#"{"release_published":{"release":"r-2","artifact":"HASH"}}"#,
        "release r-2 published, image HASH",
    ),
    (
        r#"{"release_approved":{"release":"r-2","by":"paul"}}"#,
        "release r-2 approved by paul",
    ),
    (
        r#"{"release_released":{"release":"r-2"}}"#,
        "release r-2 released: it has the approvals it needs",
    ),
    (
        r#"{"release_deprecated":{"release":"r-2"}}"#,
        "release r-2 deprecated: no new rollout",
    ),
    (
        r#"{"release_revoked":{"release":"r-2","reason":"it burns"}}"#,
        "release r-2 revoked: it burns",
    ),
    (
        r#"{"artifact_held":{"artifact":"HASH","node":3,"holders":2}}"#,
        "node 3 holds the image HASH, 2 in all",
    ),
    (
        r#"{"rollout_planned":{"rollout":"spring"}}"#,
        "rollout spring planned",
    ),
    (
        r#"{"rollout_approved":{"rollout":"spring","by":"paul"}}"#,
        "rollout spring approved by paul",
    ),
    (
        r#"{"rollout_started":{"rollout":"spring"}}"#,
        "rollout spring started",
    ),
    (
        r#"{"rollout_paused":{"rollout":"spring","reason":"windy"}}"#,
        "rollout spring paused: windy",
    ),
    (
        r#"{"rollout_resumed":{"rollout":"spring"}}"#,
        "rollout spring resumed",
    ),
    (
        r#"{"rollout_stopped":{"rollout":"spring"}}"#,
        "rollout spring stopped",
    ),
    (
        r#"{"rollout_finished":{"rollout":"spring"}}"#,
        "rollout spring finished",
    ),
    (
        r#"{"rollout_stopping":{"rollout":"spring","reason":"bad"}}"#,
        "rollout spring is being stopped: bad",
    ),
    (
        r#"{"deployment_moved":{"rollout":"spring","from":"trial","to":"timed_out",
            "attested":false,"code":9}}"#,
        "lamp-1 in spring: trial -> timed out, result 9",
    ),
    (
        r#"{"deployment_moved":{"rollout":"spring","from":null,"to":"confirmed",
            "attested":true,"code":0}}"#,
        "lamp-1 in spring: confirmed, signed by the Thing",
    ),
    (
        r#"{"deployment_skipped":{"rollout":"spring","reason":"no_gateway"}}"#,
        "lamp-1 left out of spring: it has no gateway",
    ),
    (
        r#"{"report_refused":{"rollout":"spring","to":"trial","counter":5,"code":"a.b"}}"#,
        "lamp-1: report 5 of trial for spring refused (a.b)",
    ),
    (
        r#"{"desired_set":{"target":{"district":{"district":"north"}},"version":4}}"#,
        "configuration 4 of the district north set",
    ),
    (
        r#"{"desired_set":{"target":"fleet","version":1}}"#,
        "configuration 1 of the fleet set",
    ),
    (
        r#"{"config_reported":{"document":"HASH","applied":false}}"#,
        "lamp-1 did not apply the configuration HASH",
    ),
    (
        r#"{"event_appended":{"kind":"x-door","severity":"minor","sequence":8,
            "attested":true}}"#,
        "event 8 of lamp-1: x-door, minor, signed by the Thing",
    ),
    (
        r#"{"event_gap_seen":{"first":3,"last":5}}"#,
        "events 3 to 5 of lamp-1 never came",
    ),
    (
        r#"{"event_gap_seen":{"first":3,"last":3}}"#,
        "event 3 of lamp-1 never came",
    ),
    (
        r#"{"alarm_raised":{"alarm":{"device":"lamp-1","sequence":7},"kind":"x-door",
            "severity":"major"}}"#,
        "alarm 7 of lamp-1 raised: x-door, major",
    ),
    (
        r#"{"alarm_cleared":{"alarm":{"device":"lamp-1","sequence":7}}}"#,
        "alarm 7 of lamp-1 cleared",
    ),
    (
        r#"{"alarm_acknowledged":{"alarm":{"device":"lamp-1","sequence":7},"by":"anna"}}"#,
        "alarm 7 of lamp-1 acknowledged by anna",
    ),
    (
        r#"{"change_proposed":{"proposal":"join-5"}}"#,
        "join-5 proposed",
    ),
    (
        r#"{"change_approved":{"proposal":"join-5","by":"anna"}}"#,
        "join-5 approved by anna",
    ),
    (
        r#"{"validator_added":{"validator":{"node":5,"account":"node-5","key":"HASH",
            "address":"10.0.0.5:7400"}}}"#,
        "node 5 validates, at 10.0.0.5:7400",
    ),
    (
        r#"{"validator_removed":{"node":5}}"#,
        "node 5 validates no longer",
    ),
    (r#"{"observer_added":{"node":5}}"#, "node 5 observes"),
    (
        r#"{"observer_removed":{"node":5}}"#,
        "node 5 observes no longer",
    ),
    (r#""policies_set""#, "policies set"),
    (
        r#"{"protocol_set":{"version":2,"from_height":900}}"#,
        "version 2 of the rules from block 900 on",
    ),
];

/// Actions in JSON, with their lines.
const ACTIONS: &[(&str, &str)] = &[
    (
        r#"{"users":{"register_user":{"account":"anna","organization":"city","name":"Anna",
            "key":"HASH","proof":"HASHHASH"}}}"#,
        "register the user anna (Anna) of city with the key HASH",
    ),
    (
        r#"{"users":{"grant":{"account":"anna","role":"operator","scope":""}}}"#,
        "make anna operator of the whole city",
    ),
    (
        r#"{"devices":{"tag":{"device":"lamp-1","tags":[{"name":"pole","value":"17"}]}}}"#,
        "tag lamp-1 with pole=17",
    ),
    (
        r#"{"firmware":{"revoke":{"release":"r-2","reason":"it burns"}}}"#,
        "revoke the release r-2: it burns",
    ),
    (
        r#"{"rollouts":{"pause":{"rollout":"spring","reason":"windy"}}}"#,
        "pause the rollout spring: windy",
    ),
    (
        r#"{"rollouts":{"postpone":{"rollout":"spring","device":"lamp-1","until_ms":0,
            "reason":""}}}"#,
        "postpone lamp-1 in spring no longer",
    ),
    (
        r#"{"config":{"set_desired":{"target":{"model":{"model":"lamp"}},"document":"{}",
            "replaces_version":3}}}"#,
        "set the configuration of the model lamp, after version 3, to {}",
    ),
    (
        r#"{"events":{"acknowledge":{"alarm":{"device":"lamp-1","sequence":7},
            "comment":"crew sent"}}}"#,
        "acknowledge alarm 7 of lamp-1: crew sent",
    ),
    (
        r#"{"governance":{"propose":{"proposal":"p","changes":[{"remove_validator":{"node":3}},
            {"grant":{"account":"anna","role":"approver","scope":""}},
            {"revoke":{"account":"anna","role":"operator","scope":"north"}},
            {"disable":{"account":"ben"}},{"enable":{"account":"cyd"}},
            {"reset_device":{"device":"lamp-1","counters":{"report_counter":0,
            "security_counter":null,"event_sequence":7}}},
            {"reuse_hardware":{"device":"lamp-2"}}]}}}"#,
        "propose p: remove the validator 3; make anna approver of the whole city; make anna no \
         longer operator of north; disable ben; enable cyd; reset lamp-1: report counter 0, event \
         sequence 7; let the key of lamp-2 be registered again",
    ),
    (
        r#"{"governance":{"withdraw":{"proposal":"p"}}}"#,
        "withdraw the approval of p",
    ),
];

fn hash() -> String {
    Hash([0xab; 32]).to_string()
}

#[test]
fn every_fact_has_its_words() {
    let place = Place {
        device: "lamp-1".parse().unwrap(),
        district: Scope::city(),
        gateway: None,
    };
    let mut kinds = std::collections::BTreeSet::new();
    for (json, line) in FACTS {
        let fact: Fact = serde_json::from_str(&json.replace("HASH", &hash())).unwrap();
        let kind = fact.kind();
        let about = Notification {
            place: Some(place.clone()),
            fact,
        };
        let text = notification(&about);
        assert_eq!(text, line.replace("HASH", &short(&hash())), "{json}");
        assert!(
            text == "policies set" || text != words(&kind),
            "{json} has no words"
        );
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 63, "each kind of fact is in the list");
}

#[test]
fn an_action_is_a_sentence() {
    for (json, line) in ACTIONS {
        let asked: Action = serde_json::from_str(&json.replace("HASH", &hash())).unwrap();
        assert_eq!(
            action(&asked),
            line.replace("HASH", &short(&hash())),
            "{json}"
        );
    }
}
