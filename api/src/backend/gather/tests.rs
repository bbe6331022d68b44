use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn item(number: u32) -> WorkItem {
    let device = id(&format!("lamp-{number}"));
    WorkItem::Device { device }
}

/// New work every 20 ms, as on a ledger that never rests.
#[tokio::test(start_paused = true)]
async fn work_that_goes_on_coming_does_not_hold_up_what_is_there() {
    let mut gathered = Gathered::default();
    let begun = Instant::now();
    let mut noted = 0;
    while noted < 100 {
        tokio::select! {
            biased;
            () = gathered.is_due() => break,
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                noted += 1;
                gathered.add(id("gateway"), [item(noted)]);
            }
        }
    }
    // The first came after 20 ms.
    assert_eq!(begun.elapsed().as_millis(), 20 + GATHER.as_millis());
    let sent = gathered.take();
    assert_eq!(sent[&id("gateway")].len(), 3);
    let nothing = tokio::time::timeout(10 * GATHER, gathered.is_due()).await;
    assert!(nothing.is_err(), "there is nothing to send");
}
