//! The command line.

mod distill;
mod generate;
mod model;
mod sampling;
mod tools;
mod train;
mod values;

use clap::{Parser, Subcommand};

pub(crate) use self::generate::{BatchArgs, ChatArgs, RunArgs};
pub(crate) use self::tools::{
    BenchArgs, ConvertArgs, DoctorArgs, EvalArgs, InspectArgs, MergeArgs, QuantizeArgs, VerifyArgs,
};
pub(crate) use self::train::{Init, TrainArgs};

/// Run BitNet b1.58 models.
#[derive(Debug, Parser)]
#[command(name = "bitnet", bin_name = "bitnet", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bitnet run -p \"My fellow citizens, today we\"
  bitnet run microsoft/bitnet-b1.58-2B-4T -p \"Once upon a time\" -n 200 --temperature 0.8
  bitnet chat ./model
  bitnet batch ./model -i prompts.txt -o results.jsonl
  bitnet inspect ./model
  bitnet eval ./model --text wiki.txt
  bitnet bench ./model
  bitnet convert ./model model.gguf
  bitnet verify ./model
  bitnet quantize ./master --report out.html
  bitnet train --data texts.txt -o run
  bitnet doctor";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a prompt: the text goes to standard output, statistics to standard error
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Talk with a model that has a chat template
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(ChatArgs),
    /// Continue every prompt of a file, many at once; can be stopped and resumed
    #[command(after_help = BATCH_EXAMPLES)]
    Batch(BatchArgs),
    /// Say what a model is and what it costs to run
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Measure the perplexity of a model on a text
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),
    /// Measure the speed of a model beside what this machine can read and multiply
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Write a model in another form, its ternary weights untouched
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(ConvertArgs),
    /// Write the mean of several trained models, which can be better than each
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArgs),
    /// Look for the mistakes that conversions make: exits with 1 when there is one
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Measure what quantization does to each layer of a float model, and to what it predicts
    #[command(after_help = QUANTIZE_EXAMPLES)]
    Quantize(QuantizeArgs),
    /// Train a model from scratch, fine-tune one, or train an adapter for it; can be stopped and resumed
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(TrainArgs),
    /// Look at this machine: instruction sets, read bandwidth, a self-test of every kernel
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  bitnet run -p \"My fellow citizens, today we\"              the embedded model, no download
  bitnet run ./model -p \"The capital of France is\" -n 20    a folder with config.json
  bitnet run ./model.gguf -p \"Once upon a time\"            a GGUF file
  bitnet run -p \"Once\" --temperature 0.8 --seed 7           random, and the same again
  bitnet run -p \"In\" --regex \"[A-Z][a-z]+\\.\"                a text that matches, and ends there
  bitnet run -p \"In the beginning\" --stop \".\" --stop \"!\"    one sentence
  bitnet run ./model -f code.txt --speculate lookup        faster where the text repeats its prompt
  cat prompt.txt | bitnet run -f - --json                  a prompt from a pipe, all figures";

const CHAT_EXAMPLES: &str = "\
Examples:
  bitnet chat ./model
  bitnet chat ./model --system \"You answer in one sentence.\" --temperature 0.7
  bitnet chat < questions.txt                       a question a line, answers to standard output

/help lists the commands of a chat. Ctrl-C stops an answer, Ctrl-D ends the chat.";

const BATCH_EXAMPLES: &str = "\
Examples:
  bitnet batch ./model -i prompts.txt -o results.jsonl -n 64
  bitnet batch ./model -i questions.csv --field question -o answers.csv --chat
  bitnet batch ./model -i prompts.jsonl -o results.jsonl --temperature 0.8 --seed 7 --resume

Formats go by the ending. txt is a prompt a line, with \\n for a newline and \\\\ for a backslash; jsonl has a string or an
object a line, csv a header. Results have the order of the prompts and are gathered in RESULTS.partial; killed at any point,
the same command with --resume goes on there. A prompt that fails has an error in its row: the exit status is then 1.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  bitnet inspect
  bitnet inspect ./model --json
  bitnet inspect ./model.gguf                       with what the file leaves open and how it was decided";

const EVAL_EXAMPLES: &str = "\
Examples:
  bitnet eval --text wiki.txt
  bitnet eval ./model --text wiki.txt --window 1024 --max-windows 20 --json";

const BENCH_EXAMPLES: &str = "\
Examples:
  bitnet bench                                          the embedded model: pp512 and tg128
  bitnet bench ./model -p 128,512 -n 0 -t 1,2           prompts of two lengths, on one thread and on two
  bitnet bench ./model -p 0 -b 1,8,32                   decode one sequence, and 8 and 32 at once
  bitnet bench --synthetic 2b-4t --json                 random weights in the shape of bitnet-b1.58-2B-4T
  bitnet bench --synthetic 2b-4t --save ./2b-4t         the same weights as a folder, for other programs

pp<N> reads a prompt of N random tokens; tg<N> decodes N tokens one by one behind a prompt of 4, \
tg<N> x<B> those of B sequences at once. The decode score is
the median tokens/s divided by the read bandwidth in GB/s, the prefill share the part of the int8 peak that the ternary
products make use of; bandwidth and peak are medians of samples taken between the repetitions, on the same threads.";

const CONVERT_EXAMPLES: &str = "\
Examples:
  bitnet convert ./model model.gguf                               I2_S, for bitnet.cpp
  bitnet convert ./model model.gguf --to gguf-tq2_0 --head q8_0   for llama.cpp
  bitnet convert model.gguf ./model                               a packed Hugging Face folder
  bitnet convert ./model ./master --to bf16                       masters, to train on

hf and hf-bitlinear are packed, with scales that multiply and that divide; bf16 holds float masters, those of the source
or, of a source without, such that give the same codes and scales. What is at the destination is never written over.";

const MERGE_EXAMPLES: &str = "\
Examples:
  bitnet merge run-a/model run-b/model -o merged                          two runs from one model, with other seeds
  bitnet merge ./master run-a/model run-b/model --weights 3,4,4 -o merged   with some of what they began with

Models are float masters of one shape; every weight of the result is the weighted mean of theirs.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  bitnet verify ./model
  bitnet verify model.gguf --against ./model       the same codes, scales and logits?
  bitnet verify ./model --json                     with statistics of every ternary matrix

The model reads some English sentences as it is and as if each of the known mistakes had been made. When it reads them
better with a mistake, that mistake was made before.";

const QUANTIZE_EXAMPLES: &str = "\
Examples:
  bitnet quantize ./master                                      a ranked table, on a built-in text
  bitnet quantize ./master --text wiki.txt --report out.html --report out.png
  bitnet quantize ./llama --precisions absmean,int2,int4 --min-sqnr 12
  bitnet quantize ./packed --reference ./master                 what packed weights lost
  bitnet quantize ./master -o packed                            write the packed ternary model

The float model reads the text beside its quantized form. Each linear is measured on what it really multiplies: the
signal to noise, cosine and mean square error of its outputs with weights of each precision; \"input int8\" is what rounding
its input to int8 leaves. Recommended are the fewest bits that reach --min-sqnr. Nothing is written but what --report and --output name.";

const TRAIN_EXAMPLES: &str = "\
Examples:
  bitnet train --data texts.txt --eval other.txt --epochs 5 -o run           a new small model
  bitnet train --data texts.txt --config config.json --steps 2000 -o run     of another shape
  bitnet train --init ./master --data chats.jsonl --eval more.jsonl -o run   fine-tuning: answers alone are learnt
  bitnet train --init ./model --lora 8 --data texts.txt -o run               an adapter beside a packed model
  bitnet run ./model --adapter ./run/adapter -p \"Once upon a time\"
  bitnet train --data texts.txt --epochs 5 -o run --resume                   after Ctrl-C, or a kill
  bitnet run ./run/model -p \"Once upon a time\"

Weights are ternary and activations int8 in every forward pass, as they are when the model runs. DIR/metrics.jsonl has a line
for each step. A loss that is no number, or rises, takes the run back to its last checkpoint, with a lower rate.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  bitnet doctor
  BITNET_ISA=scalar bitnet doctor --json    with an instruction set forced";
