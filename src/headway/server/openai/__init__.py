"""OpenAI's endpoints: bodies, parameters, and the events and answers that its clients expect."""
