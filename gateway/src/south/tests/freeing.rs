use std::time::Duration;

use super::super::inputs;
use super::super::worker::WorkerInput;
use super::super::{SouthEvent, WorkNotice};

#[tokio::test]
async fn a_worker_is_idle_only_after_all_its_inputs() {
    let (sender, mut receiver) = inputs::queue(2);
    receiver.note_idle();
    sender.try_send(WorkerInput::Lost).unwrap();
    assert!(!sender.is_idle(), "it waits in the queue");
    receiver.recv().await.unwrap();
    assert!(!sender.is_idle(), "it is being processed");
    sender.send(WorkerInput::Lost).await.unwrap();
    receiver.note_idle();
    assert!(!sender.is_idle(), "another one has come");
    receiver.recv().await.unwrap();
    receiver.note_idle();
    assert!(sender.is_idle());
    sender.try_send(WorkerInput::Lost).unwrap();
    sender.try_send(WorkerInput::Lost).unwrap();
    sender.try_send(WorkerInput::Lost).unwrap_err();
    for _ in 0..2 {
        receiver.recv().await.unwrap();
    }
    receiver.note_idle();
    assert!(sender.is_idle(), "one was not given");
    drop(receiver);
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_thing_gets_its_update_long_after_its_worker_was_freed() {
    let mut bed = super::foreign::testbed(crate::coap::simulated::Faults::NONE);
    super::foreign::register(&bed.endpoint.handle(), &super::foreign::NAME).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    bed.update(b"2.0.0 image").await;
    let is_progress = |event: &SouthEvent| match event {
        SouthEvent::Work { notice, .. } => matches!(notice, WorkNotice::Progress { .. }),
        _ => false,
    };
    while !is_progress(&bed.next().await) {}
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_repeated_without_end_interrupts_nothing() {
    let mut bed = super::foreign::testbed(crate::coap::simulated::Faults::NONE);
    let handle = bed.endpoint.handle();
    for _ in 0..60 {
        let answer = super::foreign::register(&handle, &super::foreign::NAME).await;
        assert_eq!(answer.code, crate::coap::Code::CREATED);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut announced = 0;
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(1), bed.next()).await {
        announced += usize::from(matches!(event, SouthEvent::Registered { .. }));
    }
    assert!((4..=9).contains(&announced), "{announced} in half a minute");
}
