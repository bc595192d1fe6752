"""The OpenAPI documents, from the route tables: the public one, and API Gateway's."""
