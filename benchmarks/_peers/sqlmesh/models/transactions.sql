MODEL (
  name shop.transactions,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column day,
    lookback 30
  )
);

SELECT
  day,
  tx_id,
  customer_id,
  amount_cents,
  CURRENT_TIMESTAMP AS built_at
FROM READ_PARQUET('landing/transactions/*.parquet')
WHERE
  day BETWEEN @start_date AND @end_date
