package peers;

import java.util.List;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.util.Collector;

/** The table format `click`: framed Avro clicks to rows of event_time, country and amount. META-INF/services names it to Flink. */
public final class ClickFormat implements DeserializationFormatFactory {
    private static final List<String> FIELDS = List.of("event_time", "country", "amount");

    @Override
    public String factoryIdentifier() {
        return "click";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        return new DecodingFormat<>() {
            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(DynamicTableSource.Context table, DataType type) {
                List<String> fields = ((RowType) type.getLogicalType()).getFieldNames();
                if (!fields.equals(FIELDS)) {
                    throw new IllegalArgumentException("the format click: got " + fields + ", want " + FIELDS);
                }
                return new Rows(table.createTypeInformation(type));
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    /** One row object for all messages, as object reuse allows; the country stays the bytes that it came as. */
    private static final class Rows implements DeserializationSchema<RowData> {
        private final TypeInformation<RowData> type;
        private transient ClickReader reader;
        private transient GenericRowData row;

        Rows(TypeInformation<RowData> type) {
            this.type = type;
        }

        @Override
        public void open(InitializationContext context) {
            reader = new ClickReader();
            row = new GenericRowData(FIELDS.size());
        }

        @Override
        public RowData deserialize(byte[] message) {
            reader.read(message);
            row.setField(0, TimestampData.fromEpochMillis(reader.timeMs));
            row.setField(1, BinaryStringData.fromBytes(message, reader.countryAt, reader.countryLength));
            row.setField(2, reader.amount);
            return row;
        }

        /** Returns when all that is chained to the source has had the row: the partial aggregation of each window too. */
        @Override
        public void deserialize(byte[] message, Collector<RowData> chained) {
            chained.collect(deserialize(message));
            Progress.handled();
        }

        @Override
        public boolean isEndOfStream(RowData row) {
            return false;
        }

        @Override
        public TypeInformation<RowData> getProducedType() {
            return type;
        }
    }
}
