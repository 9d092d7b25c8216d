// The ordinary pipeline once more, in Go: what AWS's own SDK costs on one core, and the same loop as ordinary.py.
//
//	GOMAXPROCS=1 ordinary -queue https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon-bench
//
// Region, credentials, another endpoint (AWS_ENDPOINT_URL) and other certificates (AWS_CA_BUNDLE) come from the
// environment, as the SDK reads it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const connections = 128

// What is read of an event.
type event struct {
	Detail struct {
		RequestParameters struct {
			BucketName string `json:"bucketName"`
			Key        string `json:"key"`
		} `json:"requestParameters"`
		ResponseElements struct {
			Version string `json:"x-amz-version-id"`
		} `json:"responseElements"`
	} `json:"detail"`
}

type pipeline struct {
	queue string
	sqs   *sqs.Client
	s3    *s3.Client
}

// Look at the object that a message tells of, and say whether its replication is over.
func (p *pipeline) over(ctx context.Context, message types.Message) bool {
	var told event
	if err := json.Unmarshal([]byte(aws.ToString(message.Body)), &told); err != nil {
		log.Print(err)
		return false
	}
	seen, err := p.s3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket:    &told.Detail.RequestParameters.BucketName,
		Key:       &told.Detail.RequestParameters.Key,
		VersionId: &told.Detail.ResponseElements.Version,
	})
	if err != nil {
		log.Print(err)
		return false
	}
	// As long as it is not, the message comes back when it is visible again.
	return seen.ReplicationStatus == s3types.ReplicationStatusCompleted ||
		seen.ReplicationStatus == s3types.ReplicationStatusFailed
}

// Take one batch out of the queue and see it through.
func (p *pipeline) batch(ctx context.Context) error {
	got, err := p.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &p.queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 20, VisibilityTimeout: 120,
	})
	if err != nil {
		return err
	}
	over := make([]bool, len(got.Messages))
	var all sync.WaitGroup
	for place, message := range got.Messages {
		all.Add(1)
		go func() {
			defer all.Done()
			over[place] = p.over(ctx, message)
		}()
	}
	all.Wait()
	var done []types.DeleteMessageBatchRequestEntry
	for place, message := range got.Messages {
		if over[place] {
			done = append(done, types.DeleteMessageBatchRequestEntry{
				Id: message.MessageId, ReceiptHandle: message.ReceiptHandle,
			})
		}
	}
	if len(done) == 0 {
		return nil
	}
	_, err = p.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &p.queue, Entries: done})
	return err
}

func main() {
	queue := flag.String("queue", "", "URL of the queue")
	receivers := flag.Int("receivers", 8, "batches at a time")
	flag.Parse()
	ctx := context.Background()
	client := awshttp.NewBuildableClient().WithTransportOptions(func(transport *http.Transport) {
		transport.MaxIdleConns = connections
		transport.MaxIdleConnsPerHost = connections
	})
	settings, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(client))
	if err != nil {
		log.Fatal(err)
	}
	p := pipeline{
		queue: *queue,
		sqs:   sqs.NewFromConfig(settings),
		s3: s3.NewFromConfig(settings, func(options *s3.Options) {
			options.UsePathStyle = os.Getenv("AWS_ENDPOINT_URL") != ""
		}),
	}
	var all sync.WaitGroup
	for range *receivers {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				if err := p.batch(ctx); err != nil {
					log.Print(err)
				}
			}
		}()
	}
	all.Wait()
}
