// eval: perplexity of a model on a text, and with --reference how far its predictions and its routing are
// from those of another model. Both models are open at the same time and score the same tokens.

#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/library_observer.h"
#include "cli/network_options.h"
#include "cli/options.h"
#include "cli/progress_line.h"
#include "cli/proofs.h"
#include "cli/quant_check.h"
#include "cli/standard_input.h"
#include "cli/table.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

using format::Json;

constexpr std::uint64_t kTextBytesMax = 1u << 30;
constexpr std::uint64_t kContextMax = 1u << 24;

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

void print_result(const runtime::Evaluation& evaluation, Console& console) {
  console.event(
      Json::object({{"event", "result"},
                    {"perplexity", evaluation.perplexity},
                    {"nll", evaluation.nll},
                    {"tokens", evaluation.tokens},
                    {"kl_divergence", or_null(evaluation.kl_divergence)},
                    {"top1_agreement", or_null(evaluation.top1_agreement)},
                    {"routing_agreement", or_null(evaluation.routing_agreement)},
                    {"routing_agreement_by_layer", Json::array_of(evaluation.routing_agreement_by_layer)},
                    {"peak_rss_bytes", runtime::peak_rss_bytes()}}));
  Table table;
  table.add_row({"perplexity", format_number("%.4f", evaluation.perplexity)});
  table.add_row({"nats a token", format_number("%.5f", evaluation.nll)});
  table.add_row({"tokens", with_commas(evaluation.tokens)});
  const auto add = [&](const char* name, const std::optional<double>& value, const char* format,
                       double factor) {
    if (value) table.add_row({name, format_number(format, *value * factor)});
  };
  // These three compare with the reference and are absent without one.
  add("KL divergence", evaluation.kl_divergence, "%.5f", 1);
  add("same best token", evaluation.top1_agreement, "%.2f %%", 100);
  add("same experts", evaluation.routing_agreement, "%.2f %%", 100);
  console.print(table);
}

struct EvalOptions {
  library::ModelRequest model;
  std::string text_file;
  std::string reference_model;
  std::string verify = "first-use";
  std::string kv;
  // Perplexity depends on the length of a chunk, so figures compare only at equal length. Calibration cuts
  // its text into chunks of 256, too.
  std::uint64_t context_tokens = 256;
};

void declare(Options& options, EvalOptions& values) {
  options.add_model(values.model.model);
  options.add_argument("TEXT", values.text_file,
                       "Text file to evaluate the model on; - reads standard input");
  options.group("Evaluation");
  options.add_integer("--context N", values.context_tokens, 2, kContextMax,
                      "Tokens in a chunk, BOS included");
  options.add_text("--reference MODEL", values.reference_model,
                   "Model to compare with: KL divergence, same best token, same experts; converted to bf16 "
                   "unless it is a .sluice file");
  options.group("Model, memory and threads");
  options.add_quant(values.model.quant);
  declare_verify(options, values.verify);
  options.add_kv(values.kv);
  options.add_threads(values.model.thread_count);
}

}  // namespace

int eval_command(const Invocation& invocation) {
  Console& console = invocation.console;
  EvalOptions values;
  Options options("eval",
                  "Measures perplexity on a text, and with --reference the distance to another model.",
                  "sluice eval model-q4.sluice valid.txt --reference model-bf16.sluice");
  declare(options, values);
  options.parse(invocation);

  library::ModelRequest& request = values.model;
  runtime::SessionOptions session;
  session.context_tokens = values.context_tokens;
  session.isa = forced_isa();
  session.matmul = matmul_engine();
  session.kv = runtime::parse_kv_type(values.kv);
  session.thread_count = request.thread_count;
  // The text is read before the models are prepared, so that a wrong path fails at once.
  const std::string text = values.text_file == "-" ? read_standard_input(kTextBytesMax, invocation.stop)
                                                   : base::read_text_file(values.text_file, kTextBytesMax);
  apply(NetworkOptions(), console, request.network);
  const LibraryAccess access(invocation);
  const auto open = [&](const library::ModelRequest& wanted) {
    const auto path = library::prepare_model(wanted, access.context());
    if (&wanted == &request) require_quant(path, options, wanted.quant);
    return runtime::Model::open(path, model_options(path, values.verify, request.thread_count));
  };
  const auto model = open(request);
  std::optional<runtime::Model> reference;
  if (!values.reference_model.empty()) {
    // bf16 has the released weights, so the distance to it is what quantization costs.
    library::ModelRequest reference_request = request;
    reference_request.model = values.reference_model;
    reference_request.quant.clear();
    reference_request.default_quant = "bf16";
    reference.emplace(open(reference_request));
  }
  ProgressLine progress(console);
  std::uint64_t total = 0;
  const auto on_progress = [&](std::uint64_t tokens_done, std::uint64_t tokens_total) {
    // The number of tokens is known only when the text has been encoded, so the phase begins with the first
    // report.
    if (total != tokens_total) progress.begin("evaluating", total = tokens_total);
    progress.set_done(tokens_done);
  };
  const auto evaluation = runtime::evaluate(model, reference ? &*reference : nullptr, text, session,
                                            on_progress, invocation.stop);
  console.clear_status();
  print_result(evaluation, console);
  return 0;
}

}  // namespace sluice::cli
