"""What a run says about itself: progress, tables, forecasts, a page."""
