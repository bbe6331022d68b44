//! `/v1/iotregistry`: the recorded operations of the original, over HTTP.

use std::time::Duration;

use lamplighter_contracts::devices::iotregistry::{CreateRegistrant, RegisterSpec, RegisterThing};
use prost::Message;
use reqwest::Method;
use serde::Deserialize;

use crate::node::{Answer, Node};

#[derive(Deserialize)]
struct Vector {
    kind: String,
    function: String,
    note: String,
    arg: String,
    ok: bool,
    result: Option<String>,
}

type Parameters = Vec<(&'static str, String)>;

/// The route and parameters of an operation; `None` if its bytes are no message.
fn operation(function: &str, argument: &str) -> Option<(&'static str, Parameters)> {
    let bytes = hex::decode(argument).ok()?;
    Some(match function {
        "createRegistrant" => {
            let CreateRegistrant {
                registrant_name,
                registrant_pubkey,
                data,
                signature,
            } = CreateRegistrant::decode(&*bytes).ok()?;
            let parameters = vec![
                ("RegistrantName", registrant_name),
                ("RegistrantPubkey", hex::encode(registrant_pubkey)),
                ("Signature", hex::encode(signature)),
                ("Data", data),
            ];
            ("registrant", parameters)
        }
        "registerThing" => {
            let RegisterThing {
                nonce,
                aliases,
                registrant_pubkey,
                signature,
                data,
                spec,
            } = RegisterThing::decode(&*bytes).ok()?;
            let parameters = vec![
                ("Nonce", hex::encode(nonce)),
                ("Aliases", aliases.join(",")),
                ("RegistrantPubkey", registrant_pubkey),
                ("Signature", hex::encode(signature)),
                ("Data", data),
                ("Spec", spec),
            ];
            ("registerThing", parameters)
        }
        _ => {
            let RegisterSpec {
                spec_name,
                registrant_pubkey,
                signature,
                data,
            } = RegisterSpec::decode(&*bytes).ok()?;
            let parameters = vec![
                ("SpecName", spec_name),
                ("RegistrantPubkey", registrant_pubkey),
                ("Signature", hex::encode(signature)),
                ("Data", data),
            ];
            ("registerSpec", parameters)
        }
    })
}

/// Sends an operation, and again while the rate limit refuses it.
async fn invoke(node: &Node, route: &str, parameters: &Parameters) -> Answer {
    loop {
        let path = format!("/v1/iotregistry/{route}");
        let request = node.request(Method::POST, &path).query(parameters);
        let answer = Answer::of(request.send().await.unwrap()).await;
        if answer.status != 429 {
            return answer;
        }
        let seconds = answer.header("retry-after").parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

async fn query(node: &Node, function: &str, argument: &str) -> (u16, String) {
    let (route, name) = match function {
        "owner" => ("registrant", "RegistrantPubkey"),
        "thing" => ("thing", "Alias"),
        _ => ("spec", "SpecName"),
    };
    let request = node.request(Method::GET, &format!("/v1/iotregistry/{route}"));
    let response = request.query(&[(name, argument)]).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_operations_have_their_verdicts() {
    let node = Node::start().await;
    let vectors = include_str!("../../../tests/data/iotregistry/vectors.json");
    let vectors: Vec<Vector> = serde_json::from_str(vectors).unwrap();
    let (mut played, all) = (0, vectors.len());
    for Vector {
        kind,
        function,
        note,
        arg,
        ok,
        result,
    } in vectors
    {
        if kind == "query" {
            let (status, text) = query(&node, &function, &arg).await;
            assert_eq!(status, if ok { 200 } else { 404 }, "{note}: {text}");
            if ok {
                assert_eq!(text, result.unwrap(), "{note}");
            }
        } else {
            let Some((route, parameters)) = operation(&function, &arg) else {
                continue;
            };
            let answer = invoke(&node, route, &parameters).await;
            match ok {
                true => assert_eq!(answer.ok()["receipt"]["outcome"], "succeeded", "{note}"),
                false => {
                    assert!(answer.status.is_client_error(), "{note}");
                    let code = answer.json["code"].as_str().unwrap();
                    assert!(code.starts_with("iotregistry."), "{note}: {code}");
                }
            }
        }
        played += 1;
    }
    assert_eq!(all - played, 2, "all but those that are no messages");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_have_a_rate_limit_and_need_a_token() {
    let node = Node::start().await;
    let path = "/v1/iotregistry/registerSpec?SpecName=a&RegistrantPubkey=00&Signature=00";
    let stranger = node.open(Method::POST, path).send().await.unwrap();
    Answer::of(stranger)
        .await
        .assert_problem(401, "auth.missing");
    let post =
        async |path: &str| Answer::of(node.request(Method::POST, path).send().await.unwrap()).await;
    let no_hex = "/v1/iotregistry/registerSpec?SpecName=a&RegistrantPubkey=00&Signature=x";
    post(no_hex)
        .await
        .assert_problem(400, "iotregistry.not_hex");
    post(&format!("{path}&Colour=red"))
        .await
        .assert_problem(400, "parameter");
    let mut limited = false;
    for _ in 0..1_000 {
        let answer = post(path).await;
        if answer.status == 429 {
            answer.assert_problem(429, "rate_limited");
            assert_eq!(answer.header("retry-after"), "1");
            limited = true;
            break;
        }
        answer.assert_problem(400, "iotregistry.unknown_registrant");
    }
    assert!(limited);
    node.stop().await;
}
