mod dead_letter;
mod device_sync;
mod device_table;
mod node_progress;
mod report_check;
mod tasks;
