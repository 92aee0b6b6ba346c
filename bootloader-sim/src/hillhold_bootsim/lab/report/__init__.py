"""The report on a campaign, to hand in: what it says (`content`), in HTML, PDF and JUnit, and the signed manifest of its files."""
