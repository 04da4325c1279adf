#pragma once
// The container while it is made, over as many runs as it takes: part file, journal and writer in one.
//
// A finished tensor is first in the file, then in the journal. The next run hashes the bytes of all tensors
// that the journal names and compares; it needs their SHA-256 for the file's anyway, and so nothing depends
// on the order in which the disk got file and journal, nor on nobody having touched them
// (docs/decisions/0010). What is durable is settled every GiB, which is what a power loss costs at the most.

#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "base/part_file.h"
#include "base/progress.h"
#include "convert/calibration.h"
#include "convert/conversion_journal.h"
#include "convert/plan.h"
#include "convert/tensor_pipeline.h"
#include "convert/tensor_sink.h"
#include "format/container_writer.h"

namespace sluice::convert {

class UnfinishedContainer final : public TensorSink {
 public:
  /// Error{usage} when another process makes the same output. Warns when what is there is of no use.
  UnfinishedContainer(const std::filesystem::path& output, const ConversionIdentity& identity,
                      base::Progress& progress);

  /// Takes over the first of the jobs, as far as an earlier run has finished them and their bytes still are
  /// what they were; from then on tensors can be written. `jobs`: all of the conversion's.
  void resume(const Plan& plan, std::span<const TensorJob> jobs, base::Progress& progress,
              const std::stop_token& stop);
  /// Where the number of tokens that a tensor's expert saw comes from.
  void set_calibration(const CalibrationFeed* feed) { feed_ = feed; }

  void begin_tensor(const format::ModelTensor& tensor, format::Storage storage, format::DType source_dtype,
                    std::uint64_t expert_bytes) override;
  void write(base::Bytes bytes) override;
  void finish_write() override;
  void hash(base::Bytes bytes, base::LeafQueue& leaves) override { writer_->hash(bytes, leaves); }
  void end_tensor(const base::Sha256& source_digest, const QuantError& error) override;

  /// In container order.
  [[nodiscard]] const std::vector<FinishedTensor>& finished() const { return journal_.finished(); }

  /// All tensors are there: the container gets its name.
  [[nodiscard]] format::WrittenContainer finish(format::Json provenance, format::Json recipe);
  /// What ends with this error is kept for the next run, or of no use and removed. Throws it on, with what is
  /// kept.
  [[noreturn]] void leave(const base::Error& error);

 private:
  [[nodiscard]] bool adopt_finished(const Plan& plan, std::span<const TensorJob> jobs,
                                    base::Progress& progress, const std::stop_token& stop);

  base::PartFile part_;
  ConversionJournal journal_;
  std::size_t tensors_;
  std::optional<format::ContainerWriter> writer_;
  const CalibrationFeed* feed_ = nullptr;
  const format::ModelTensor* tensor_ = nullptr;  // that is being written
  std::uint64_t unsynced_bytes_ = 0;
  bool journal_is_due_ = false;
};

}  // namespace sluice::convert
