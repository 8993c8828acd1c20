// The AWS SDK for JavaScript with nothing but the look-alike's three variables; says what `sts.py` says.
import { createInterface } from 'node:readline'
import { library } from './common.mjs'

const { S3Client, ListBucketsCommand, CreateBucketCommand } = await library('@aws-sdk/client-s3')
const { STSClient, GetCallerIdentityCommand, AssumeRoleCommand } = await library('@aws-sdk/client-sts')

const sts = new STSClient({})
// One provider for both clients: each of its own would exchange the token once more.
const s3 = new S3Client({ forcePathStyle: true, credentials: sts.config.credentials })

async function denied(client, command) {
  try {
    await client.send(command)
    return 'done'
  } catch (error) {
    return error.name
  }
}

const { Arn, UserId, Account } = await sts.send(new GetCallerIdentityCommand({}))
const said = {
  buckets: ((await s3.send(new ListBucketsCommand({}))).Buckets ?? []).length,
  create: await denied(s3, new CreateBucketCommand({ Bucket: 'x' })),
  identity: { Arn, UserId, Account },
  assume: await denied(sts, new AssumeRoleCommand({ RoleArn: 'arn:aws:iam::111122223333:role/x', RoleSessionName: 'xy' })),
}
console.log(JSON.stringify(said))
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
await lines.next()
console.log(JSON.stringify({ ended: await denied(sts, new GetCallerIdentityCommand({})) }))
process.exit(0)
