#pragma once
// The container that a conversion is writing, over as many runs as it takes: part file, journal and writer.
//
// A finished tensor is written to the file first and then to the journal. The next run hashes the bytes of
// all tensors that the journal names and compares them with its digests; it needs the hashes for file_sha256
// anyway. So a resumed conversion depends neither on the order in which the disk received file and journal
// nor on nobody having touched them (docs/decisions/0010). File and journal are synced every GiB, so a power
// loss costs at most the last GiB.

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
  /// Error{usage} when another process is writing the same output. Warns when an earlier run's file cannot be
  /// used.
  UnfinishedContainer(const std::filesystem::path& output, const ConversionIdentity& identity,
                      base::Progress& progress);

  /// Takes over the tensors that an earlier run has finished, up to the first whose bytes have changed; then
  /// tensors can be written. `jobs` are all jobs of the conversion.
  void resume(const Plan& plan, std::span<const TensorJob> jobs, base::Progress& progress,
              const std::stop_token& stop);
  /// The feed knows how many tokens a tensor's expert saw, which the journal records.
  void set_calibration(const CalibrationFeed* feed) { feed_ = feed; }

  void begin_tensor(const format::ModelTensor& tensor, format::Storage storage, format::DType source_dtype,
                    std::uint64_t expert_bytes) override;
  void write(base::Bytes bytes) override;
  void finish_write() override;
  void hash(base::Bytes bytes, base::LeafQueue& leaves) override { writer_->hash(bytes, leaves); }
  void end_tensor(const base::Sha256& source_digest, const QuantError& error) override;

  /// In container order.
  [[nodiscard]] const std::vector<FinishedTensor>& finished() const { return journal_.finished(); }

  /// Completes the container after its last tensor and gives it its name.
  [[nodiscard]] format::WrittenContainer finish(format::Json provenance, format::Json recipe);
  /// Ends a run that failed with `error`: keeps the finished tensors for the next run when that can continue,
  /// else removes the file. Throws `error`, whose message then says what was kept.
  [[noreturn]] void leave(const base::Error& error);

 private:
  [[nodiscard]] bool adopt_finished(const Plan& plan, std::span<const TensorJob> jobs,
                                    base::Progress& progress, const std::stop_token& stop);

  base::PartFile part_;
  ConversionJournal journal_;
  std::size_t tensors_;
  std::optional<format::ContainerWriter> writer_;
  const CalibrationFeed* feed_ = nullptr;
  const format::ModelTensor* tensor_ = nullptr;  // the tensor being written
  std::uint64_t unsynced_bytes_ = 0;
  bool journal_is_due_ = false;
};

}  // namespace sluice::convert
