"""Starting, staying healthy, keeping the time, and ending."""
