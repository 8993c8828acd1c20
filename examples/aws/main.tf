# The AWS side of both accounts, for a broker at https://claimbound.acme.example in mode `web-identity`. Apply it in each,
# with a state of its own: `terraform apply -var target=staging`, and the same with `production`.
# `claimbound trust aws --role payments-deploy.production` prints the provider and the trust policy for a role of yours.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.81" }
  }
}

variable "target" {
  description = "The target of mappings/policy.toml whose account this is"
  type        = string
  validation {
    condition     = contains(["staging", "production"], var.target)
    error_message = "The target is staging or production."
  }
}

# The accounts of the targets: what belongs to one is never made in the other.
locals {
  accounts = {
    staging    = "111122223333"
    production = "444455556666"
  }
}

provider "aws" {
  allowed_account_ids = [local.accounts[var.target]]
}

# Once per account, however many roles trust it.
resource "aws_iam_openid_connect_provider" "claimbound" {
  url            = "https://claimbound.acme.example"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "payments_deploy" {
  name                 = "payments-deploy"
  max_session_duration = 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = aws_iam_openid_connect_provider.claimbound.arn }
      # Tags and source identity travel in the broker's assertion: without the last two actions AWS refuses it.
      Action = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
      Condition = {
        StringEquals = {
          "claimbound.acme.example:aud" = "sts.amazonaws.com"
          "claimbound.acme.example:sub" = "role:payments-deploy.${var.target}"
        }
      }
    }]
  })
}

# What the role may do at most. A session gets only what the session policy of the mapping folder allows too.
resource "aws_iam_role_policy" "payments_deploy" {
  name = "payments-deploy"
  role = aws_iam_role.payments_deploy.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "cloudfront:CreateInvalidation"]
      Resource = "*"
    }]
  })
}
