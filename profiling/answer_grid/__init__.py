"""Every setting's answer to many questions, without the time that it takes."""
