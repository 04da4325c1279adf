#include "convert/tensor_pipeline.h"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/hasher.h"
#include "convert/plan.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

namespace sluice::convert {
namespace {

/// Collects what it gets, and fails in the given call.
class CollectingSink final : public TensorSink {
 public:
  struct Tensor {
    std::vector<std::byte> written;
    std::vector<std::byte> hashed;
    base::Sha256 source_digest;
    QuantError error;
    bool operator==(const Tensor&) const = default;
  };

  explicit CollectingSink(std::string failing = {}) : failing_(std::move(failing)) {}

  void begin_tensor(const format::ModelTensor& tensor, format::Storage, format::DType,
                    std::uint64_t) override {
    fail_in("begin");
    CHECK(name_.empty());
    name_ = tensor.name;
    tensor_ = {};
  }
  void write(base::Bytes bytes) override {
    fail_in("write");
    tensor_.written.insert(tensor_.written.end(), bytes.begin(), bytes.end());
  }
  void finish_write() override { written_ = true; }
  void hash(base::Bytes bytes, base::LeafQueue&) override {
    fail_in("hash");
    tensor_.hashed.insert(tensor_.hashed.end(), bytes.begin(), bytes.end());
  }
  void end_tensor(const base::Sha256& source_digest, const QuantError& error) override {
    fail_in("end");
    CHECK(std::exchange(written_, false));
    tensor_.source_digest = source_digest;
    tensor_.error = error;
    names.push_back(name_);
    tensors[std::exchange(name_, {})] = std::move(tensor_);
  }

  std::vector<std::string> names;
  std::map<std::string, Tensor> tensors;

 private:
  /// Throws in the fifth call.
  void fail_in(const std::string& call) {
    if (call == failing_ && ++calls_ == 5) throw base::Error(base::ErrorKind::io, "fails in " + call);
  }

  const std::string failing_;
  int calls_ = 0;
  std::string name_;
  Tensor tensor_;
  bool written_ = false;
};

struct Fixture {
  Fixture() {
    auto params = tests::tiny_params();
    params.dim = 192;         // rows of 384 bytes: 128 of them are whole leaves
    params.hidden_dim = 456;  // rows of 912 bytes: 1024 of them would be
    tests::write_tiny_release(folder.path(), params, 3);
  }

  void run(TensorSink& sink, const Plan& plan, BlockSize size, unsigned threads,
           const TensorPipeline::FindGptqFactors& find = {}, const std::stop_token& stop = {}) const {
    std::vector<TensorJob> jobs;
    for (const PlannedTensor& tensor : plan.tensors)
      jobs.push_back({&tensor, &plan.files[tensor.source->file_index], 0});
    base::NoProgress progress;
    TensorPipeline(sink, size, threads, progress, stop).run(jobs, find);
  }

  const tests::TempDir folder;
};

constexpr BlockSize kSmallest = {1, 1};
constexpr BlockSize kWhole = {std::uint64_t{1} << 30, std::uint64_t{1} << 30};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "the bytes are the same in blocks of any size, by any number of threads") {
  for (const Quant quant : {Quant::bf16, Quant::q8, Quant::q6, Quant::q4}) {
    const Plan plan = Plan::make(folder.path(), types_for(quant));
    CollectingSink whole;
    run(whole, plan, kWhole, 1);
    REQUIRE(whole.names.size() == plan.tensors.size());
    for (const auto& [name, tensor] : whole.tensors) CHECK(tensor.written == tensor.hashed);
    // Blocks of one panel; blocks that end where leaves end, and blocks that do not.
    for (const std::uint64_t bytes : {1u, 30000u, 49152u, 70000u}) {
      for (const unsigned threads : {1u, 2u, 5u}) {
        CAPTURE(bytes);
        CAPTURE(threads);
        CollectingSink sink;
        run(sink, plan, {bytes, bytes}, threads);
        CHECK(sink.names == whole.names);
        for (const auto& [name, tensor] : whole.tensors) {
          CAPTURE(name);
          REQUIRE(sink.tensors.at(name) == tensor);
        }
      }
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "run() rethrows what a sink throws, from any of its calls") {
  const Plan plan = Plan::make(folder.path(), types_for(Quant::q4));
  for (const std::string call : {"begin", "write", "hash", "end"}) {
    for (const unsigned threads : {1u, 2u, 5u}) {
      CollectingSink sink(call);
      CHECK_THROWS_WITH(run(sink, plan, kSmallest, threads), doctest::Contains(("fails in " + call).c_str()));
      CHECK(sink.names.size() < plan.tensors.size());
    }
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "GPTQ factors are looked up tensor by tensor, and run() rethrows what the lookup throws") {
  const Plan plan = Plan::make(folder.path(), types_for(Quant::q4));
  std::vector<std::string> asked;
  CollectingSink sink;
  run(sink, plan, kSmallest, 3, [&](const PlannedTensor& tensor) -> const GptqFactors* {
    asked.push_back(tensor.target.name);
    return nullptr;
  });
  CHECK(asked == sink.names);
  CollectingSink other;
  CHECK_THROWS_WITH(run(other, plan, kSmallest, 3,
                        [&](const PlannedTensor&) -> const GptqFactors* {
                          if (other.names.size() < 4) return nullptr;
                          throw base::Error(base::ErrorKind::malformed, "no text");
                        }),
                    doctest::Contains("no text"));
}

TEST_CASE_FIXTURE(Fixture, "a stop ends it") {
  const Plan plan = Plan::make(folder.path(), types_for(Quant::q4));
  std::stop_source source;
  source.request_stop();
  CollectingSink sink;
  CHECK_THROWS_WITH(run(sink, plan, kSmallest, 2, {}, source.get_token()), doctest::Contains("interrupted"));
  CHECK(sink.names.empty());
}

}  // namespace sluice::convert
