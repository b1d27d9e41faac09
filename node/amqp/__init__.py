"""The broker, on RabbitMQ: the only place that knows aio-pika."""
