"""`sbc-report`: how backup scripts and backup tools report, without a line of code and at no risk to the backup."""
