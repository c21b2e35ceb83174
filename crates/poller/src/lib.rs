//! epoll behind a small safe API: registrations, wake-ups, many pollers, balancing
