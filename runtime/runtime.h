#pragma once
// Executes prompts: a mapped .sluice file, the forward pass, sampling, evaluation and bench.
//
// With q8 and q4 containers the logits of a sequence are the same bits for any number of threads, any split
// of its tokens into steps and any other sequences in these steps (on one instruction set): every matrix
// product is integer until its last step, and every float operation has one fixed order that does not depend
// on how tokens were batched. The bf16 container computes in f32 with MatmulEngine::own, and is then the
// reference path. By default its prompts go through oneDNN where the CPU multiplies bf16, which rounds
// activations to bf16.

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "format/container_proofs.h"
#include "format/expert_statistics.h"
#include "format/hub/chat_files.h"
#include "format/model_description.h"
#include "text/text.h"

namespace sluice::runtime {

using text::TokenId;

/// Kernel families. Each computes the same integers; the fastest that the CPU has is the default. The numbers
/// are part of the prompt cache format.
enum class Isa : std::uint8_t { generic = 0, avx2 = 1, avx512 = 2, avxvnni = 3 };
inline constexpr std::array kIsas = {Isa::generic, Isa::avx2, Isa::avxvnni, Isa::avx512};  ///< the best last

[[nodiscard]] std::string_view to_string(Isa isa);
/// "avx512", "avxvnni", "avx2" or "generic"; nothing for other texts.
[[nodiscard]] std::optional<Isa> parse_isa(std::string_view text);
/// Whether this CPU can execute it.
[[nodiscard]] bool is_supported(Isa isa);
/// The best that this CPU can execute.
[[nodiscard]] Isa detect_isa();

/// The implementation of matrix products.
enum class MatmulEngine : std::uint8_t {
  automatic,  ///< the faster one for every product (docs/performance.md)
  own,        ///< the own kernels alone
  onednn,     ///< oneDNN for all products of 8 rows and more; fewer rows always go to the own kernels
};

/// "auto", "own" or "onednn"; nothing for other texts.
[[nodiscard]] std::optional<MatmulEngine> parse_matmul_engine(std::string_view text);

struct MatmulInfo {
  Isa isa;                     ///< of the own kernels
  std::string onednn_version;  ///< "2.6.3"
  std::string onednn_isa;      ///< what oneDNN says that it uses, such as "avx512_core_bf16"
};
[[nodiscard]] MatmulInfo matmul_info();

/// How keys and values are stored; see runtime/memory/kv_cache.h.
enum class KvType : std::uint8_t { f32, bf16, q8 };

[[nodiscard]] std::string_view to_string(KvType type);
/// "f32", "bf16" or "q8"; nothing for other texts.
[[nodiscard]] std::optional<KvType> parse_kv_type(std::string_view text);

/// When tensors and experts are compared with their digests.
enum class Verify : std::uint8_t {
  off,        ///< never, except the tokenizer
  first_use,  ///< each one before the forward pass uses it for the first time
  full,       ///< all of them when the model is opened, whatever earlier runs have verified
};

/// "off", "first-use" or "full"; nothing for other texts.
[[nodiscard]] std::optional<Verify> parse_verify(std::string_view text);

struct ModelOptions {
  Verify verify = Verify::first_use;
  unsigned thread_count = 1;  ///< for what is verified when the model is opened
  /// Files that record what has been verified, so that later runs need not do it again; see
  /// format::ContainerProofs.
  std::vector<std::filesystem::path> proof_records = {};
};

/// How an engine gets the experts' bytes, and what that has cost since it was made.
struct ResidencyStats {
  bool streams = false;  ///< false: the container is mapped, and the numbers below are 0
  /// The given limit leaves no room for two experts, so it has no effect: the container is mapped.
  bool limit_too_low = false;
  std::uint64_t expert_count = 0;
  std::uint64_t experts_held = 0;  ///< slots of the expert cache
  std::uint64_t expert_bytes = 0;  ///< of the largest
  std::uint64_t hits = 0;          ///< experts that were in memory when the router had chosen them
  std::uint64_t misses = 0;        ///< experts that had to be read
  std::uint64_t bytes_read = 0;
  double read_s = 0;   ///< seconds in which at least one read was under way
  double stall_s = 0;  ///< seconds in which a thread waited for reads, averaged over the threads
};

/// A mapped container: immutable, shared by sessions and threads.
class Model {
 public:
  /// Maps the file and checks its header and directory; what is wrong there is Error{malformed}. So is a
  /// model that can be described, but not computed: "FILE: layer 3: ... is not supported yet". Verifies norms
  /// and routers, which are copied; a mismatch is Error{verification}.
  [[nodiscard]] static Model open(const std::filesystem::path& path, const ModelOptions& options = {});
  ~Model();
  Model(Model&&) noexcept;

  [[nodiscard]] const format::ModelDescription& description() const;
  /// The tokenizer of the release, of which the container has a copy.
  [[nodiscard]] const text::Tokenizer& tokenizer() const;
  /// How the model reads conversations: by the chat template of its release, or in Mistral's format. The
  /// model must outlive it. Error{verification} when a section does not match its digest; errors of
  /// text::ChatFormat.
  [[nodiscard]] text::ChatFormat chat_format() const;
  /// How the model's authors recommend to sample. Error{verification} when it does not match its digest,
  /// Error{malformed} naming the key of a bad value.
  [[nodiscard]] format::GenerationDefaults generation_defaults() const;
  /// "bf16", "q8" or "q4": the type of the expert weights.
  [[nodiscard]] std::string_view quant() const;
  /// The types of the weights that the container was made of, when those had been quantized before ("Q4_K,
  /// Q6_K"); otherwise empty.
  [[nodiscard]] std::string quantized_source() const;
  /// Bytes of weights that computing one token reads: k experts a layer, attention, router, norms, head.
  [[nodiscard]] std::uint64_t decode_bytes_per_token() const;
  /// Operations of the products of a prompt token: two for each weight of attention, router and chosen
  /// experts.
  [[nodiscard]] std::uint64_t prefill_operations_per_token() const;
  /// How much has been verified so far, and how long that took.
  [[nodiscard]] format::ProofStats proof_stats() const;

  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Which experts one token chose in one layer. Valid during the call only.
struct RoutingEvent {
  std::uint64_t position = 0;
  TokenId token = 0;
  std::uint64_t layer = 0;
  std::span<const std::uint32_t> experts;  ///< best first
  std::span<const float> weights;          ///< of their results in the sum
  /// How far the last chosen expert is above the next one, by what the router has compared: logits, or scores
  /// where it has a selection bias or groups. Nothing when all are chosen.
  std::optional<float> margin;
};

struct EngineOptions {
  unsigned thread_count = 1;
  std::uint64_t context_tokens = 4096;  ///< the longest that a sequence may become
  std::uint64_t step_tokens_max = 512;  ///< rows of one step, of all its sequences together
  std::optional<KvType> kv = {};        ///< default: f32 for bf16 containers, otherwise bf16
  /// Memory for the KV pages of all sequences. Default: what one sequence of `context_tokens` needs.
  std::optional<std::uint64_t> kv_budget_bytes = {};
  /// The default budget keeps the positions that a sliding window has left; see SequenceOptions.
  bool keep_positions = false;
  /// Memory for the states of recurrent layers (delta nets, convolutions): every sequence with tokens has
  /// one, each sequence of a step needs one more, or two where the step makes a snapshot, and each snapshot
  /// is one. Default: what one sequence with `snapshots` snapshots needs.
  std::optional<std::uint64_t> state_budget_bytes = {};
  std::uint64_t snapshots = 0;
  std::optional<Isa> isa = {};  ///< default: detect_isa()
  MatmulEngine matmul = MatmulEngine::automatic;
  /// Memory for the whole process. Weights that do not fit are read when they are needed; see
  /// docs/larger-than-memory.md. Default: what the kernel and the control groups leave.
  std::optional<std::uint64_t> memory_bytes = {};
  std::uint64_t reserved_bytes = 0;  ///< memory that the caller will allocate itself, excluded from the plan
};

/// Where an engine's time went so far, by the clock of the thread that calls step().
struct PartSeconds {
  double attention = 0;  ///< norm, projections, attention itself
  double router = 0;     ///< norm and gate, and the choice of experts
  double experts = 0;
  double head = 0;
};

/// The state of the KV pages of an engine.
struct KvPages {
  std::uint64_t page_tokens = 0;  ///< positions of a page; it may have a part of the layers
  std::uint64_t page_bytes = 0;
  std::uint64_t total = 0;
  std::uint64_t free = 0;
};

/// The states of the recurrent layers of an engine; all 0 for a model without such layers.
struct RecurrentStates {
  std::uint64_t state_bytes = 0;  ///< of one sequence, whatever its length
  std::uint64_t total = 0;
  std::uint64_t free = 0;
};

class Sequence;

/// Which rows of logits a step returns for one of its sequences.
enum class LogitsOf : std::uint8_t { none, last_token, every_token };

/// Tokens that a step appends to one sequence.
struct StepInput {
  Sequence* sequence = nullptr;
  std::span<const TokenId> tokens;  ///< at least one
  LogitsOf logits = LogitsOf::last_token;
  /// The sequence keeps a snapshot behind so many of these tokens; 0: none. See Sequence::truncate().
  std::size_t snapshot_after = 0;
};

/// Rows of logits [vocab_size], in the order of the inputs and of their tokens. Valid until the next step.
class StepLogits {
 public:
  StepLogits(const float* rows, std::size_t count, std::size_t stride, std::size_t vocab_size)
      : rows_(rows), count_(count), stride_(stride), vocab_size_(vocab_size) {}
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] std::span<const float> operator[](std::size_t row) const {
    return {rows_ + row * stride_, vocab_size_};
  }

 private:
  const float* rows_;
  std::size_t count_;
  std::size_t stride_;
  std::size_t vocab_size_;
};

/// Executes a model: worker threads, expert cache, pinned weights, buffers and KV pages, shared by all its
/// sequences. Used by one thread at a time. The model must outlive it.
class Engine {
 public:
  /// Error{usage} naming the numbers when the KV pages would not fit into memory.
  Engine(const Model& model, EngineOptions options);
  ~Engine();
  Engine(Engine&&) noexcept;

  /// Appends tokens to each of the sequences, all in one pass through the layers. With q8 and q4 containers a
  /// sequence's logits are the same bits alone and with any others. No sequence may appear twice, and the
  /// tokens of all must be at most step_tokens_max.
  ///
  /// On an error no sequence has advanced. A token outside the vocabulary, or more tokens than a context has
  /// left, is Error{malformed}; fewer free KV pages than pages_needed() says, or fewer free states of
  /// recurrent layers than the step makes, Error{usage}; an expert whose bytes do not match its digest,
  /// Error{verification}; weights, router values or logits that are not finite, Error{malformed}; a stop
  /// request, checked between layers, Error{interrupted}.
  StepLogits step(std::span<const StepInput> inputs, const std::stop_token& stop = {});

  [[nodiscard]] const Model& model() const;
  [[nodiscard]] const EngineOptions& options() const;
  [[nodiscard]] KvPages kv_pages() const;
  [[nodiscard]] RecurrentStates recurrent_states() const;
  [[nodiscard]] ResidencyStats residency_stats() const;
  [[nodiscard]] PartSeconds part_seconds() const;
  /// Whether any product so far was computed by oneDNN.
  [[nodiscard]] bool has_used_onednn() const;

  struct Impl;
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct SequenceOptions {
  std::optional<std::uint64_t> context_tokens = {};  ///< default and most: the engine's
  /// Keeps the keys and values of all positions, also of those that a sliding window has left behind: for
  /// save_prompt_cache().
  bool keep_positions = false;
  /// Snapshots that it keeps at most. The oldest one is dropped for a new one.
  std::uint64_t snapshots = 0;
  /// Called in order of layer, then position, within each step.
  std::function<void(const RoutingEvent&)> on_routing = {};
};

/// The tokens of one conversation or prompt, as their keys and values and the state of recurrent layers.
/// Cheap: it takes KV pages as it grows and gives them back at its end. The engine must outlive it.
class Sequence {
 public:
  explicit Sequence(Engine& engine, SequenceOptions options = {});
  ~Sequence();
  Sequence(Sequence&&) noexcept;

  [[nodiscard]] std::uint64_t position() const;  ///< tokens so far
  [[nodiscard]] std::uint64_t context_tokens() const;
  /// KV pages that appending `token_count` tokens takes from the engine; may be negative where a sliding
  /// window moves on.
  [[nodiscard]] std::int64_t pages_needed(std::uint64_t token_count) const;
  /// Forgets all tokens and gives back their pages.
  void reset();
  /// Forgets the tokens behind the first `token_count`, of which there must be as many, and returns
  /// position(). It is 0 when the next token would see positions that a sliding window has left behind. The
  /// state of recurrent layers cannot be rewound, so where a model has such layers it is that of the last
  /// snapshot that is not behind `token_count`, or 0.
  std::uint64_t truncate(std::uint64_t token_count);
  /// Keeps a snapshot here, to which truncate() can return. It costs no time, and the memory of one state
  /// (Engine::recurrent_states()) once the sequence goes on. Nothing happens without recurrent layers.
  void keep_snapshot();

  struct Impl;
  [[nodiscard]] Impl& impl() { return *impl_; }
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct SessionOptions {
  unsigned thread_count = 1;
  std::uint64_t context_tokens = 4096;
  std::uint64_t prefill_chunk_tokens = 512;  ///< tokens of a step of feed(), at most
  std::optional<KvType> kv;                  ///< as in EngineOptions, like the other members that it has
  std::optional<Isa> isa;
  MatmulEngine matmul = MatmulEngine::automatic;
  bool keep_positions = false;
  /// As in SequenceOptions. feed() keeps one 16 tokens before the end of what it is given, where the marks
  /// that open an answer begin, and, with keep_positions, others at even distances of 512 tokens and more.
  std::uint64_t snapshots = 0;
  std::optional<std::uint64_t> memory_bytes = {};
  std::uint64_t reserved_bytes = 0;
  std::stop_token stop;  ///< checked between layers: feed() then throws Error{interrupted}
  std::function<void(const RoutingEvent&)> on_routing;  ///< as in SequenceOptions
};

/// An engine with one sequence: all that executing a single prompt needs. Used by one thread at a time.
class Session {
 public:
  /// Error{usage} naming the numbers when the KV pages would not fit into memory.
  Session(const Model& model, SessionOptions options);
  ~Session();
  Session(Session&&) noexcept;

  /// Appends tokens and returns the logits [vocab_size] after the last one; valid until the next call.
  /// Errors are those of Engine::step().
  std::span<const float> feed(std::span<const TokenId> tokens);

  /// Like feed(), but calls `visit(index in tokens, logits [vocab_size])` for every token.
  void feed_all(std::span<const TokenId> tokens,
                const std::function<void(std::size_t, std::span<const float>)>& visit);

  /// Forgets all tokens.
  void reset();
  /// As Sequence::truncate().
  std::uint64_t truncate(std::uint64_t token_count);
  /// Replaces SessionOptions::stop, for a session that goes on after an interrupt.
  void set_stop(std::stop_token stop);
  [[nodiscard]] std::uint64_t position() const;
  [[nodiscard]] std::uint64_t context_tokens() const;
  [[nodiscard]] ResidencyStats residency_stats() const;
  [[nodiscard]] PartSeconds part_seconds() const;
  /// Whether any product so far was computed by oneDNN.
  [[nodiscard]] bool has_used_onednn() const;

  [[nodiscard]] Engine& engine();
  [[nodiscard]] Sequence& sequence();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// True for an existing file that begins as save_prompt_cache() writes it.
[[nodiscard]] bool is_prompt_cache_file(const std::filesystem::path& path);

/// How much of a prompt a file of save_prompt_cache() has saved.
struct PromptCacheUse {
  std::uint64_t reused_tokens = 0;     ///< of the prompt, now in the session
  std::uint64_t cached_tokens = 0;     ///< of the prompt, in the file
  std::optional<std::string> warning;  ///< why the file is not used
};

/// Copies the keys and values of the longest prefix that `prompt` shares with the file's tokens into a
/// session without tokens; for models with recurrent layers up to the last state in the file before its end.
/// The prompt's last token is always left out: feeding it gives the logits, which are the same bits as
/// without the file. A file that does not exist saves nothing. A file that is damaged, cut, or of another
/// version, model, KV type or instruction set is not used, and the warning says why; a file that is not a
/// prompt cache at all is Error{malformed}. See docs/run.md.
[[nodiscard]] PromptCacheUse load_prompt_cache(Session& session, const std::filesystem::path& path,
                                               std::span<const TokenId> prompt);

/// Writes the keys and values of the session's first tokens, which the caller passes as `tokens`, and the
/// session's snapshots within them, for later runs. The session must have been made with keep_positions. The
/// file is replaced as a whole or not at all.
void save_prompt_cache(Session& session, const std::filesystem::path& path, std::span<const TokenId> tokens);

struct SamplingOptions {
  double temperature = 0.7;  ///< 0: greedy, the lowest id among equals
  double top_p = 0.95;       ///< 1: off
  std::uint64_t top_k = 0;   ///< 0: off
  double min_p = 0;          ///< 0: off
  std::uint64_t seed = 0;
  // Penalties of the tokens that are among the last repeat_last_n of prompt and text, for greedy sampling
  // too.
  double repeat_penalty = 1;        ///< divides a positive logit, multiplies a negative one; 1: off
  double presence_penalty = 0;      ///< subtracted from the logit; 0: off
  double frequency_penalty = 0;     ///< subtracted from the logit once for each occurrence; 0: off
  std::int64_t repeat_last_n = 64;  ///< 0: no penalties, -1: all tokens
};

enum class StopReason : std::uint8_t { eos, length, interrupt, stop_text };
[[nodiscard]] std::string_view to_string(StopReason reason);

struct Generation {
  std::vector<TokenId> ids;  ///< generated; an EOS that ended it is the last
  std::string text;          ///< their text, up to a stop text
  StopReason stop = StopReason::length;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;  ///< rate of the tokens after the first; 0 when there is only one
  double first_token_s = 0;        ///< seconds from the call of generate() to the first token
};

/// Feeds the prompt (ids with BOS) and samples up to `tokens_max` tokens. Tokens of the prompt that the
/// session has already are not fed again, but the last one must not be among them. `on_token(id, text)` gets
/// each token with the text that became complete with it. Text is held back while it may be part of a UTF-8
/// character or the start of one of `stop_texts`. After an interrupt result.text may be longer than the texts
/// that on_token got.
[[nodiscard]] Generation generate(Session& session, const Model& model, std::span<const TokenId> prompt,
                                  std::uint64_t tokens_max, const SamplingOptions& sampling,
                                  const std::function<void(TokenId, std::string_view)>& on_token,
                                  const std::stop_token& stop, std::span<const std::string> stop_texts = {});

struct Evaluation {
  double nll = 0;  ///< mean negative log likelihood, nats a token
  double perplexity = 0;
  std::uint64_t tokens = 0;  ///< that were predicted: without a BOS not the first of a chunk
  // Against the reference model; absent without one.
  std::optional<double> kl_divergence;      ///< mean KL(reference || model), nats
  std::optional<double> top1_agreement;     ///< share of positions with the same most likely token
  std::optional<double> routing_agreement;  ///< share of (layer, position) with the same set of experts
  std::vector<double> routing_agreement_by_layer;  ///< 1 for layers without experts; empty without any
};

/// Encodes the whole text, cuts the ids into chunks of context_tokens - 1, and scores each chunk alone after
/// BOS. Calls `on_progress(tokens done, tokens total)` after each.
[[nodiscard]] Evaluation evaluate(const Model& model, const Model* reference, std::string_view text,
                                  const SessionOptions& options,
                                  const std::function<void(std::uint64_t, std::uint64_t)>& on_progress,
                                  const std::stop_token& stop);

struct CalibrationOptions {
  unsigned thread_count = 1;
  std::uint64_t context_tokens = 256;       ///< of each chunk of the text, with its BOS
  std::uint64_t memory_bytes = 256u << 20;  ///< for the tokens' states; bounds how much of the text is read
  std::optional<Isa> isa;
  std::stop_token stop;
};

/// Runs a text through a model to collect statistics of the inputs of its experts: layer by layer, all tokens
/// through one layer before the next, so that the weights are read once and only one layer's statistics are
/// held. With q8 and q4 models the statistics are the same bits for any number of threads. Used by one thread
/// at a time; the model must outlive it.
class Calibrator {
 public:
  /// The text is cut as evaluate() cuts it. Error{malformed} when it has no tokens.
  Calibrator(const Model& model, std::string_view text, const CalibrationOptions& options);
  ~Calibrator();
  Calibrator(Calibrator&&) noexcept;

  [[nodiscard]] std::uint64_t tokens() const;        ///< that are run, without BOS
  [[nodiscard]] std::uint64_t tokens_total() const;  ///< of the whole text
  /// Runs the next layer, from 0 on, and returns its statistics. Call it n_layers times at most.
  [[nodiscard]] format::LayerStatistics next_layer();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct BenchOptions {
  std::uint64_t prompt_tokens = 512;
  std::uint64_t decode_tokens = 32;
  unsigned repetitions = 3;
};

struct BenchResult {  ///< medians of the repetitions, except the parts, which are those of the last one
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  /// The slowest and the fastest repetition.
  double prefill_tokens_per_s_min = 0, prefill_tokens_per_s_max = 0;
  double decode_tokens_per_s_min = 0, decode_tokens_per_s_max = 0;
  std::uint64_t decode_bytes_per_token = 0;
  std::uint64_t peak_rss_bytes = 0;  ///< before the memory for measuring bandwidth was taken
  // Plain reads by as many threads in the same run, in small pages and in huge ones where the kernel gives
  // them, and the bytes of weights that decoding reads in a second, as a fraction of either. Reads take turns
  // with further decoding, or come after it under a memory limit.
  double read_bandwidth_gb_per_s = 0;
  double decode_bandwidth_fraction = 0;
  double read_bandwidth_huge_gb_per_s = 0;
  double decode_bandwidth_huge_fraction = 0;
  /// The rate of all threads with prefill's instructions on registers alone, right before and after prefill;
  /// 0 for bf16.
  double int8_peak_gops = 0;
  double prefill_gops = 0;  ///< two operations for each weight that a token is multiplied with
  double prefill_peak_fraction = 0;
  bool onednn = false;        ///< whether products of the prompt went through oneDNN
  PartSeconds prefill_parts;  ///< of one prompt
  PartSeconds decode_parts;   ///< of one token
  ResidencyStats residency;   ///< over all repetitions of decoding, without prefill
};

/// Measures with random token ids: one repeated token would always choose the same experts.
[[nodiscard]] BenchResult bench(const Model& model, const SessionOptions& options, const BenchOptions& bench,
                                const std::stop_token& stop);

/// Highest resident set of this process so far, in bytes.
[[nodiscard]] std::uint64_t peak_rss_bytes();

}  // namespace sluice::runtime
