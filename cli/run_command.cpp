// run: prepares the model, runs one prompt and prints tokens as they come. Everything is printed by the
// calling thread, one token after the other; the runtime's threads only compute.
//
// Stdout gets the text; notes, warnings and the tables of --stats go to stderr, so that the text can be
// piped. With --json each token is an event, and the result repeats the whole text.

#include <algorithm>
#include <random>

#include "base/error.h"
#include "base/text.h"
#include "cli/answer_printer.h"
#include "cli/chat_options.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/environment.h"
#include "cli/generation_report.h"
#include "cli/library_observer.h"
#include "cli/proofs.h"
#include "cli/quant_check.h"
#include "cli/residency.h"
#include "cli/routing_log.h"
#include "cli/run_options.h"
#include "cli/table.h"
#include "format/model_tensors.h"
#include "runtime/runtime.h"
#include "text/text.h"

namespace sluice::cli {
namespace {

/// Points from which a later prompt may go on, for models with recurrent layers. Each takes as much of the
/// prompt cache as a state has bytes, 66 MB for Qwen3.5-35B-A3B.
constexpr std::uint64_t kPromptSnapshots = 4;

using format::Json;

/// Layers may have different numbers of experts, or none. The counts have one column for each expert of the
/// layer with most of them.
std::uint64_t experts_max(const format::ModelDescription& description) {
  std::uint64_t most = 0;
  for (const auto& layer : description.layer_kinds) most = std::max(most, format::expert_count(layer));
  return most;
}

/// Returns the shares [layer, expert] of all experts.
Json routing_json(const RoutingCounts& counts) {
  Json layers = Json::array();
  for (std::size_t layer = 0; layer < counts.layer_count(); ++layer) {
    Json shares = Json::array();
    for (std::size_t expert = 0; expert < counts.expert_count(); ++expert) {
      shares.push_back(Json(counts.share(layer, expert)));
    }
    layers.push_back(std::move(shares));
  }
  return layers;
}

Json load_json(const RoutingCounts& counts) {
  Json layers = Json::array();
  for (std::size_t layer = 0; layer < counts.layer_count(); ++layer) {
    const auto used = [&](std::size_t expert) {
      return Json::object({{"expert", expert}, {"share", counts.share(layer, expert)}});
    };
    layers.push_back(Json::object({{"layer", layer},
                                   {"tokens", counts.tokens(layer)},
                                   {"most_used", used(counts.most_used(layer))},
                                   {"least_used", used(counts.least_used(layer))}}));
  }
  return layers;
}

Json make_result(const runtime::Generation& generation, const std::vector<runtime::TokenId>& prompt,
                 std::uint64_t reused_tokens, std::uint64_t seed) {
  return Json::object({{"event", "result"},
                       {"prompt_ids", Json::array_of(prompt)},
                       {"prompt_tokens_reused", reused_tokens},
                       {"ids", Json::array_of(generation.ids)},
                       {"text", generation.text},
                       {"stop", runtime::to_string(generation.stop)},
                       {"seed", seed},
                       {"prefill_tokens_per_s", generation.prefill_tokens_per_s},
                       {"decode_tokens_per_s", generation.decode_tokens_per_s},
                       {"first_token_s", generation.first_token_s},
                       {"peak_rss_bytes", runtime::peak_rss_bytes()}});
}

/// BOS, where the model has one and the prompt does not begin with it, and the ids of the prompt, in which
/// control tokens count as such.
std::vector<runtime::TokenId> prompt_with_control_tokens(const text::Tokenizer& tokenizer,
                                                         const std::string& prompt) {
  const text::TextRange all{0, prompt.size()};
  std::vector<runtime::TokenId> ids = tokenizer.encode(prompt, {&all, 1});
  const auto bos = tokenizer.bos();
  if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

// Runs one prompt on an open model.
class Run {
 public:
  Run(const RunOptions& values, const runtime::Model& model, std::optional<std::uint64_t> trained_tokens,
      const Invocation& invocation)
      : values_(values),
        model_(model),
        trained_tokens_(trained_tokens),
        invocation_(invocation),
        console_(invocation.console) {
    // The trace file is created before the prompt is computed, so that a path that cannot be written fails at
    // once.
    if (!values.trace.empty()) trace_.emplace(values.trace);
    if (values.chat) format_.emplace(model.chat_format());
    // Without channels the answer is printed as it comes, with the marks of thinking in it.
    if (format_ && format_->uses_channels()) {
      splitter_.emplace(*format_, model.tokenizer(), false);
      printer_.emplace(console_, false);
    }
    if (values.stats) counts_.emplace(model.description().layer_count(), experts_max(model.description()));
  }

  int execute(const std::string& prompt) {
    const auto ids = prompt_ids(prompt);
    // The number of prompt tokens decides about the context, so the prompt is encoded before the session is
    // made.
    const Budget budget = plan_context(values_, trained_tokens_, ids.size(), console_);
    runtime::Session session(model_, session_options(budget));
    warn_of_memory(session.residency_stats(), console_);
    runtime::PromptCacheUse cache;
    // Any other file was given up with --overwrite.
    if (keeps_prompt() && runtime::is_prompt_cache_file(values_.prompt_cache))
      cache = runtime::load_prompt_cache(session, values_.prompt_cache, ids);
    // A cache that does not fit this model or prompt costs time and not correctness: the prompt is computed
    // again.
    if (cache.warning) console_.warn(*cache.warning + "; it is not used");
    if (!console_.quiet() && !values_.chat) console_.write_generated(prompt);
    const auto generation = runtime::generate(
        session, model_, ids, budget.tokens_max, values_.sampling,
        [this](runtime::TokenId id, std::string_view text) { show_token(id, text); }, invocation_.stop,
        values_.stop_texts);
    // generate() holds back unfinished UTF-8 and what may begin a stop text: the rest of a generation that
    // was interrupted.
    show_rest(generation.text.substr(shown_bytes_));
    console_.write_generated("\n");
    if (trace_) trace_->finish();
    if (keeps_prompt()) keep_prompt(session, ids, cache.cached_tokens);
    residency_ = session.residency_stats();
    print_result(generation, ids, cache.reused_tokens);
    // Text that was interrupted is still a result and is printed, and the exit code says that it is not
    // complete.
    const bool interrupted_early = generation.stop == runtime::StopReason::interrupt;
    return interrupted_early ? base::exit_code(base::ErrorKind::interrupted) : 0;
  }

 private:
  [[nodiscard]] bool keeps_prompt() const { return !values_.prompt_cache.empty(); }

  [[nodiscard]] std::vector<runtime::TokenId> prompt_ids(const std::string& prompt) const {
    const auto& tokenizer = model_.tokenizer();
    if (values_.special) return prompt_with_control_tokens(tokenizer, prompt);
    if (!values_.chat) return tokenizer.encode_prompt(prompt);
    std::vector<text::Message> conversation;
    if (!values_.system.empty()) conversation.push_back({text::Role::system, values_.system});
    conversation.push_back({text::Role::user, prompt});
    return format_->prompt(conversation, {.variables = parse_chat_variables(values_.chat_variables)}).ids;
  }

  // After an interrupt the computed part of the prompt is saved. A file that already has as much is kept.
  void keep_prompt(runtime::Session& session, std::span<const runtime::TokenId> ids,
                   std::uint64_t cached_tokens) {
    const auto computed = std::min<std::uint64_t>(session.position(), ids.size());
    if (computed > cached_tokens)
      runtime::save_prompt_cache(session, values_.prompt_cache,
                                 ids.first(static_cast<std::size_t>(computed)));
  }

  [[nodiscard]] runtime::SessionOptions session_options(const Budget& budget) {
    runtime::SessionOptions options;
    options.thread_count = values_.model.thread_count;
    options.context_tokens = budget.context_tokens;
    options.kv = runtime::parse_kv_type(values_.kv);
    options.memory_bytes = values_.memory_bytes;
    // A cache holds all positions of the prompt, also those that a sliding window has left.
    options.keep_positions = keeps_prompt();
    options.snapshots = keeps_prompt() ? kPromptSnapshots : 0;
    options.isa = forced_isa();
    options.matmul = matmul_engine();
    options.stop = invocation_.stop;
    if (trace_ || counts_) {
      options.on_routing = [this](const runtime::RoutingEvent& event) {
        if (trace_) trace_->add(event);
        if (counts_) counts_->add(event);
      };
    }
    return options;
  }

  void show_token(runtime::TokenId id, std::string_view text) {
    console_.event(Json::object({{"event", "token"}, {"id", id}, {"text", text}}));
    shown_bytes_ += text.size();
    if (!splitter_) return console_.write_generated(text);
    printer_->show(splitter_->add(id, text));
  }

  void show_rest(std::string_view text) {
    if (!splitter_) return console_.write_generated(text);
    printer_->show(splitter_->finish(text));
  }

  void print_result(const runtime::Generation& generation, const std::vector<runtime::TokenId>& ids,
                    std::uint64_t reused_tokens) {
    if (counts_) {
      for (const StyledText& line : routing_table(*counts_)) console_.report(line);
      console_.report(proofs_line(model_.proof_stats()));
      console_.report(residency_line(residency_));
      if (const std::string types = model_.quantized_source(); !types.empty())
        console_.report("source: quantized before the conversion, " + types + " (lossy)");
    }
    console_.note(statistics_line(generation, ids.size(), reused_tokens, "the prompt cache", values_));
    Json result = make_result(generation, ids, reused_tokens, values_.sampling.seed);
    if (printer_) {
      const text::Message answer = printer_->take();
      result.set("text", answer.content);
      if (!answer.thinking.empty()) result.set("thinking", answer.thinking);
    }
    if (counts_) {
      result.set("routing", routing_json(*counts_));
      result.set("expert_load", load_json(*counts_));
      result.set("proofs", proofs_json(model_.proof_stats()));
      result.set("memory", residency_json(residency_));
      if (const std::string types = model_.quantized_source(); !types.empty())
        result.set("quantized_source", types);
    }
    console_.event(result);
  }

  const RunOptions& values_;
  const runtime::Model& model_;
  std::optional<std::uint64_t> trained_tokens_;
  const Invocation& invocation_;
  Console& console_;
  std::optional<TraceFile> trace_;
  std::optional<RoutingCounts> counts_;
  runtime::ResidencyStats residency_;
  std::optional<text::ChatFormat> format_;        // with --chat
  std::optional<text::AnswerSplitter> splitter_;  // where answers consist of channels
  std::optional<AnswerPrinter> printer_;          // the same
  std::size_t shown_bytes_ = 0;                   // bytes of the generated text that were printed
};

}  // namespace

int run_command(const Invocation& invocation) {
  RunOptions values;
  Options options(
      "run",
      "Generates text from a prompt. A model that is missing is downloaded, verified and converted first.",
      "sluice run stories-moe -p \"Once upon a time\" -n 200 --stats");
  declare(options, values);
  options.parse(invocation);
  note_given(options, invocation.console, values);
  require_sensible(values);
  require_outputs(values, values.model.model);
  const std::string prompt = values.conversation ? std::string() : read_prompt(values, invocation.stop);
  // Wrong variables are reported before a long conversion, not after it.
  static_cast<void>(forced_isa());
  static_cast<void>(matmul_engine());
  // A seed of 32 bits is represented exactly in every JSON reader.
  values.sampling.seed = values.seed ? *values.seed : std::random_device()();

  apply(values.network, invocation.console, values.model.network);
  const LibraryAccess access(invocation);
  // Everything that can be wrong with the command line was checked above: this call may download and convert
  // for hours.
  const auto path = library::prepare_model(values.model, access.context());
  require_quant(path, options, values.model.quant);
  // A name or link says only now which file the model is.
  require_outputs(values, path);
  const auto model =
      runtime::Model::open(path, model_options(path, values.verify, values.model.thread_count));
  // The longest context that the model was trained for stands in the manifest of its origin. Nothing has
  // proven that origin here; a wrong one can only lead to a wrong warning or default.
  const auto release = library::find_origin(path, access.context());
  if (const std::string damage = library::damaged_sources_of(path); values.stats && !damage.empty())
    invocation.console.warn(path.string() + ": " + damage);
  const auto trained_tokens = release ? release->manifest.context_tokens : std::nullopt;
  if (values.chat || values.conversation) use_recommended_sampling(model, values, invocation.console);
  if (values.conversation) return converse(values, model, path, trained_tokens, invocation);
  return Run(values, model, trained_tokens, invocation).execute(prompt);
}

}  // namespace sluice::cli
