"""Packaging, deployment and the CloudFormation that both use."""
