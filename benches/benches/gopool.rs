//! What it costs to hand a task to a pool, and how soon it starts.
//!
//! `cargo bench -p benches --bench gopool --features peers` for criterion's report, and
//! `… -- --paired` for 20 rounds in which all contenders take turns, as ratios to gopool.
//!
//! All have two workers, but for one gopool with its default cap, which grows as it sees fit.
//! Tasks count themselves, which is how the end is known.

use std::{
    env, hint,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use benches::paired::{Medians, ROUNDS, rounds, time};
use criterion::{Criterion, Throughput};

const WORKERS: usize = 2;
const BURST: usize = 10_000;
/// Long enough for workers to lie down.
const REST: Duration = Duration::from_micros(500);

/// Something that runs tasks on other threads.
trait Contender {
    fn name(&self) -> &'static str;
    fn go(&self, task: impl FnOnce() + Send + 'static);
}

struct GoPool(&'static str, gopool::Pool);

impl GoPool {
    fn new(name: &'static str, builder: gopool::Builder) -> Self {
        Self(name, builder.build().unwrap())
    }
}

impl Contender for GoPool {
    fn name(&self) -> &'static str {
        self.0
    }

    fn go(&self, task: impl FnOnce() + Send + 'static) {
        self.1.go(task).unwrap();
    }
}

type Boxed = Box<dyn FnOnce() + Send>;

/// A channel and plain threads.
struct Channel(&'static str, crossbeam_channel::Sender<Boxed>);

impl Channel {
    fn new(name: &'static str, limit: Option<usize>) -> Self {
        let (sender, receiver) = match limit {
            Some(limit) => crossbeam_channel::bounded::<Boxed>(limit),
            None => crossbeam_channel::unbounded(),
        };
        for _ in 0..WORKERS {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().for_each(|task| task()));
        }
        Self(name, sender)
    }
}

impl Contender for Channel {
    fn name(&self) -> &'static str {
        self.0
    }

    fn go(&self, task: impl FnOnce() + Send + 'static) {
        self.1.send(Box::new(task)).unwrap();
    }
}

#[cfg(feature = "peers")]
mod peers {
    use super::{Contender, WORKERS};

    pub(super) struct Rayon(pub(super) rayon::ThreadPool);

    impl Rayon {
        pub(super) fn new() -> Self {
            Self(rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap())
        }
    }

    impl Contender for Rayon {
        fn name(&self) -> &'static str {
            "rayon"
        }

        fn go(&self, task: impl FnOnce() + Send + 'static) {
            self.0.spawn(task);
        }
    }

    pub(super) struct ThreadPool(pub(super) threadpool::ThreadPool);

    impl ThreadPool {
        pub(super) fn new() -> Self {
            Self(threadpool::ThreadPool::new(WORKERS))
        }
    }

    impl Contender for ThreadPool {
        fn name(&self) -> &'static str {
            "threadpool"
        }

        fn go(&self, task: impl FnOnce() + Send + 'static) {
            self.0.execute(task);
        }
    }

    pub(super) struct Tokio(pub(super) tokio::runtime::Runtime);

    impl Tokio {
        pub(super) fn new() -> Self {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            Self(builder.worker_threads(1).max_blocking_threads(WORKERS).build().unwrap())
        }
    }

    impl Contender for Tokio {
        fn name(&self) -> &'static str {
            "tokio-spawn-blocking"
        }

        fn go(&self, task: impl FnOnce() + Send + 'static) {
            self.0.spawn_blocking(task);
        }
    }
}

fn wait_for(done: &AtomicUsize, count: usize) {
    let mut looks = 0_u32;
    while done.load(SeqCst) < count {
        looks += 1;
        if looks % 64 == 0 {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// `count` tasks from one producer, from the first submission to the last end.
fn stream(pool: &impl Contender, count: usize) -> Duration {
    let done = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    for _ in 0..count {
        let done = Arc::clone(&done);
        pool.go(move || {
            done.fetch_add(1, SeqCst);
        });
    }
    wait_for(&done, count);
    started.elapsed()
}

/// Bursts of 10,000, each from rest.
fn bursts(pool: &impl Contender, count: usize) -> Duration {
    (0..count)
        .map(|_| {
            thread::sleep(REST);
            stream(pool, BURST)
        })
        .sum()
}

/// From the call to the task's first instruction, with all workers asleep.
fn wake_ups(pool: &impl Contender, count: usize) -> Duration {
    let epoch = Instant::now();
    let began = Arc::new(AtomicU64::new(0));
    (0..count)
        .map(|_| {
            thread::sleep(REST);
            began.store(0, SeqCst);
            let also = Arc::clone(&began);
            let called = epoch.elapsed();
            pool.go(move || also.store(epoch.elapsed().as_nanos() as u64, SeqCst));
            let mut nanos = 0;
            while nanos == 0 {
                thread::sleep(Duration::from_micros(50));
                nanos = began.load(SeqCst);
            }
            Duration::from_nanos(nanos) - called
        })
        .sum()
}

/// What is measured, how many at a time, and how many of them there are to pay for.
#[derive(Clone, Copy)]
enum Question {
    Go,
    Burst,
    Wake,
}

impl Question {
    const ALL: [Self; 3] = [Self::Go, Self::Burst, Self::Wake];

    fn name(self) -> &'static str {
        match self {
            Question::Go => "go",
            Question::Burst => "burst-10000",
            Question::Wake => "wake-up",
        }
    }

    fn ask(self, pool: &impl Contender, count: usize) -> Duration {
        match self {
            Question::Go => stream(pool, count),
            Question::Burst => bursts(pool, count),
            Question::Wake => wake_ups(pool, count),
        }
    }

    /// How many make one sample of a paired run.
    fn sample(self) -> usize {
        match self {
            Question::Go => 200_000,
            Question::Burst => 10,
            Question::Wake => 100,
        }
    }
}

/// A contender, as a function.
struct Entry(&'static str, Box<dyn Fn(Question, usize) -> Duration>);

fn entry(pool: impl Contender + 'static) -> Entry {
    Entry(pool.name(), Box::new(move |question, count| question.ask(&pool, count)))
}

fn field() -> Vec<Entry> {
    vec![
        entry(GoPool::new("gopool", gopool::Pool::builder().cap(WORKERS))),
        entry(GoPool::new("gopool-default-cap", gopool::Pool::builder())),
        entry(Channel::new("crossbeam-bounded", Some(16 * 1024))),
        entry(Channel::new("crossbeam-unbounded", None)),
        #[cfg(feature = "peers")]
        entry(peers::Rayon::new()),
        #[cfg(feature = "peers")]
        entry(peers::ThreadPool::new()),
        #[cfg(feature = "peers")]
        entry(peers::Tokio::new()),
    ]
}

fn paired() {
    let field = field();
    let mut rows: Vec<String> = field.iter().map(|Entry(name, _)| format!("| {name} |")).collect();
    for question in Question::ALL {
        let count = question.sample();
        let all = rounds(field.len(), |at| {
            (field[at].1)(question, count).as_secs_f64() * 1e9 / count as f64
        });
        for (at, Medians { time: own, ratio, low, high }) in all.into_iter().enumerate() {
            rows[at] += &match at {
                0 => format!(" {} |", time(own)),
                _ => format!(" {}, {ratio:.2} ({low:.2} to {high:.2}) |", time(own)),
            };
        }
    }
    println!("Medians of {ROUNDS} rounds, and as ratios to gopool's in the same round:\n");
    println!("| | `go`, one producer | burst of 10,000 | wake-up |\n|---|---:|---:|---:|");
    rows.iter().for_each(|row| println!("{row}"));
}

fn main() {
    if env::args().any(|argument| argument == "--paired") {
        return paired();
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let field = field();
    for question in Question::ALL {
        let mut group = criterion.benchmark_group(format!("gopool/{}", question.name()));
        if let Question::Burst = question {
            group.throughput(Throughput::Elements(BURST as u64));
        }
        for Entry(name, ask) in &field {
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|count| ask(question, count as usize));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
