// The AWS SDK for JavaScript through a renewal: one call, a wait until the client gets other keys, and another call. Prints one
// object of JSON.
//
// Finds its keys as the SDK always does. `ENDPOINT` is AWS; the file `node-began` says that the first call is over.
import { writeFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { library } from './common.mjs'

const { S3Client, ListBucketsCommand } = await library('@aws-sdk/client-s3')
const client = new S3Client({ endpoint: process.env.ENDPOINT, forcePathStyle: true })
const key = async () => (await client.config.credentials()).accessKeyId

await client.send(new ListBucketsCommand({}))
const first = await key()
writeFileSync('node-began', '')
while ((await key()) === first) await setTimeout(200)
const { Buckets = [] } = await client.send(new ListBucketsCommand({}))
console.log(JSON.stringify({ Buckets, keys: [first, await key()] }))
