"""Labels a folder of videos: import, train or take a run, infer, judge, write what other tools can train on."""
